//! The words of short codes, and which of them somebody may have meant.
//!
//! They are written for this program: everyday English nouns, mostly, of four to seven letters, as a person says them
//! over a telephone. No two are one slip apart (a letter wrong, missing, too many, or two swapped), none begins another,
//! and none is spelt otherwise in another country's English, so a slip is noticed before it costs a guess.

/// How many words there are: ten bits each.
pub const COUNT: usize = 1024;

/// In alphabetical order, as long as [`COUNT`] says.
const LIST: &str = "
    abacus academy accent acorn acrobat actor admiral agenda airport alarm album alley almond alpaca amber
    ambush amulet analyst anchor ankle antenna antler anvil apple apron arcade archer arctic arena arrow artist
    asphalt aspirin athlete atlas atom attic audio aurora autumn avenue avocado awning axle bacon badge bagel
    baker balcony ballad ballet bamboo banana bandage banjo banner banquet barley barn barrel basil basket
    bathtub battery bazaar beaver bedroom beehive beetle bellows bench bicycle biology birch biscuit bison
    blanket blazer blender blimp blossom blouse bobcat bonfire bonnet border bottle boulder bouquet bowler
    bracket braid bread breeze brick bronze broom brother brownie brush bubble bucket buckle budget buffalo
    bugle builder bulb bulldog bumper bunker burger burrow butler button buzzard cabbage cabin cable cactus
    calcium calypso camel camera campus canal canary candle candy canoe canvas canyon caper captain caramel
    caravan cargo caribou carpet carrot cartoon carve cascade cashew castle cavern cedar ceiling celery cellar
    cello cement century ceramic chair chalk channel chapel chapter chariot cheese cheetah chef cherry chess
    chicken chimney chisel chorus cider cinema circle circus citizen citrus city clam clerk cliff climate clinic
    clock closet cloud clover coach coast cobalt cobbler cobra cobweb cockpit cocoa coconut coffee colony comet
    comic compass compost concert condor cookie copper coral cork corner cosmos costume cottage cotton cougar
    council country cousin cowboy coyote cradle crane crater crayon cream credit cricket crimson crocus crown
    cruise crumb crystal cuckoo culture cupcake curator curry curtain cushion custard cutlery cyclone cypress
    dahlia dairy dancer debate decimal decoy degree delta denim dentist deputy detail device dialect diamond
    diesel dinner diploma dipper dishes disk doctor dogwood dollar dolly dolphin domain domino donkey doorway
    double dozen dragon drama drawer dresser drizzle drum duchess duffel dugout dungeon dynamo eagle eardrum
    earring easel echo eclipse editor eggnog elbow elder embassy emblem emerald emperor empire enamel engine
    enigma epic equator escape essay estate evening exhibit expert eyebrow fabric factory falcon family fanfare
    farmer fashion faucet feather fencing fennel fern ferret ferry fiction fiddle field fiesta figure filter
    finger firefly fisher fjord flame flannel flask flint flute foghorn folder forest forge fortune fossil
    freckle freezer freight frigate frisbee frog frost fruit fudge fungus furlong furnace gadget galaxy gallery
    gallon garage garden garland garlic garment garnet gateway gazebo gazelle gecko genius gerbil geyser ghost
    giant giggle giraffe glacier glider globe gnome goggles golden golf gondola gopher gorilla gospel gossip
    grammar granite granola grape grass gravel gravity green griffin grocery grotto group guitar gumbo gumdrop
    gutter habit hacksaw hairpin hallway halogen hammer hammock hamster handbag hangar harmony harness harp
    harvest hatchet hazel hedge helium helmet hermit heron herring hickory highway hippo hockey holiday hollow
    honey horizon hornet hotel hubcap hunter hurdle husky hybrid hydrant hyena iceberg icicle ideal igloo iguana
    image impala imprint inch index indigo infant inkwell insect invoice iris iron island ivory jackal jacket
    jaguar jasmine javelin jelly jersey jewel jigsaw jogger journal juggler juice jukebox jungle juniper karate
    kayak kernel ketchup kettle kimono kingdom kiosk kitchen kiwi knight knuckle koala label ladder ladle lagoon
    lamp lantern lasagna laser lather lattice laundry lawyer leaflet lecture legend lemon lentil leopard lettuce
    level library lilac lintel lion liquid lizard llama lobby lobster locker locust lodge logic lotion lotus
    lullaby lumber lunch machine magenta magnet magpie mailbox mammoth manager mango mansion maple marble margin
    marina market marsh mascot mason meadow medal medley melody melon member memory menu mercury mermaid meteor
    metro microbe milk miller mineral mirror mitten mixture mobile model modern module monarch monsoon moose
    morning mosaic moss motor muffin museum music muskrat mustang mystery napkin narwhal nation nature navy
    nebula nectar needle nephew neptune network nickel nomad noodle north novel novice nugget nursery nutmeg
    nylon oasis oatcake oatmeal obelisk object oboe ocean octagon octopus odyssey office olive onion onyx opera
    opossum optic orange orbit orchard orchid organ origami osprey ostrich otter outfit outlet outpost oven
    oxygen oyster paddle padlock pagoda painter pajamas palace pancake panda panther papaya paprika parade
    parasol parcel parsley party passage pasta pastry patio patrol paving peacock peanut pearl pebble pecan
    pelican pencil penguin pepper perfume petal photo physics piano pickle picnic pigeon pilgrim pillow pilot
    pincer pioneer pirate piston pitcher pizza planet plaster plastic plateau plaza plum pocket podium poem
    poetry polka pollen polygon pond popcorn poplar potato pottery powder prairie prawn pretzel prince prism
    problem protein prune pudding pulley pumpkin puppet puppy purple puzzle pyramid python quail quantum quarry
    quarter quartz queen quill quince quiver quiz rabbit raccoon radar radio radish raft railway rainbow raisin
    rally ranch ranger rapids raptor rattle raven ravine ravioli razor recipe reef referee relic remedy reptile
    rescue resin rhubarb rhythm ribbon ridge ripple river robin robot rodeo romance rooster royal rubber rudder
    rugby ruler runway rustic safari saffron sailor salad salami salmon sample samurai sandal sardine satchel
    satin saucer sauna sausage savanna scallop scanner scarf school science scooter scout scroll seagull season
    seaweed secret seesaw segment senator sequel session shadow shampoo shark shelf shelter sheriff shield shirt
    shovel shrimp shutter signal silence silver siren sister skater sketch skillet skunk skylark sled sleeve
    slipper slogan smoke snail snorkel snow soccer sofa soldier sonata soprano soup sparrow spatula speaker
    spider spinach spiral sponge spoon spring spruce squash squid stadium stamp staple statue steam stencil
    sticker storm stove straw street student studio suburb subway sugar summer summit sundial sunrise surface
    surgeon sushi swallow swan sweater swimmer switch symbol syrup system tablet tadpole talent talon tanker
    target teapot temple tempo tennis termite terrace terrier textile thermos thimble thistle thorn thread
    throne thunder ticket tiger timber tinsel tissue titan toaster tofu tomato tonic topaz torch tornado toucan
    tourist towel town tractor traffic trailer tramway trapeze treaty trident trilogy trolley trophy trouser
    trout truck trumpet tugboat tulip tuna tundra tunnel turban turbine turkey turnip turtle tuxedo twin twister
    typhoon uncle unicorn uniform urchin utensil utopia vaccine vacuum valve vanilla vault vehicle velvet vendor
    venison veranda verdict vessel veteran viaduct vicar victory video villa vinegar violin virtue visitor
    vitamin volcano volume voucher voyage waffle wagon wagtail walkway walnut walrus warbler warrior washer
    water wedding weekend wetland whale wharf wheel whisker wicker widget wildcat window winter wombat wonder
    wreath wrench writer yacht yard yeast yellow yolk zebra zenith zinc zodiac zone
";

/// The words in order.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    LIST.split_whitespace()
}

/// The word at `index`, counted from 0 and taken modulo [`COUNT`].
pub(super) fn at(index: u16) -> &'static str {
    all().nth(usize::from(index) % COUNT).expect("as many words as COUNT says")
}

/// The word of the list that `word` is, in small letters.
pub(super) fn find(word: &str) -> Option<&'static str> {
    all().find(|listed| *listed == word)
}

/// The one word that is a slip away from `word`, or the only one that it begins.
pub(super) fn nearest(word: &str) -> Option<&'static str> {
    let only = |mut found: Box<dyn Iterator<Item = &'static str> + '_>| {
        let first = found.next();
        first.filter(|_| found.next().is_none())
    };
    only(Box::new(all().filter(move |listed| is_a_slip(word, listed)))).or_else(|| {
        let long_enough = word.len() >= LEAST_BEGINNING;
        only(Box::new(all().filter(move |listed| long_enough && listed.starts_with(word))))
    })
}

/// Letters from which on a beginning is worth a suggestion.
const LEAST_BEGINNING: usize = 3;

/// Whether one slip makes `b` of `a`: a letter wrong, missing, too many, or two neighbours swapped.
fn is_a_slip(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let same_start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[same_start..], &b[same_start..]);
    let same_end = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    match (&a[..a.len() - same_end], &b[..b.len() - same_end]) {
        ([], [_]) | ([_], []) | ([_], [_]) => true,
        ([first, second], [third, fourth]) => first == fourth && second == third,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_a_code_counts_on_in_order_and_in_plain_letters() {
        let words: Vec<&str> = all().collect();
        assert_eq!(words.len(), COUNT);
        assert!(words.is_sorted_by(|a, b| a < b), "in order, and each once");
        for word in &words {
            assert!((4..=7).contains(&word.len()), "{word}");
            assert!(word.bytes().all(|letter| letter.is_ascii_lowercase()), "{word}");
        }
        assert_eq!((at(0), at(1023), at(1024)), ("abacus", "zone", "abacus"));
    }

    #[test]
    fn no_two_are_one_slip_apart_and_none_begins_another() {
        let words: Vec<&str> = all().collect();
        for (index, word) in words.iter().enumerate() {
            for other in &words[index + 1..] {
                assert!(!is_a_slip(word, other), "{word} and {other}");
                assert!(!other.starts_with(word), "{word} begins {other}");
            }
        }
    }

    #[test]
    fn a_slip_is_known_for_one() {
        for slip in ["tiger", "tigre", "tger", "tigger", "tigen", "tige", "iger", "tigers"] {
            assert_eq!(is_a_slip(slip, "tiger"), slip != "tiger", "{slip}");
        }
        assert!(!is_a_slip("tgier", "tigre") && !is_a_slip("", "tiger"));
    }

    #[test]
    fn whoever_slips_is_told_the_word_that_was_meant() {
        assert_eq!(nearest("tigre"), Some("tiger"));
        assert_eq!(nearest("lampp"), Some("lamp"));
        assert_eq!(nearest("volca"), Some("volcano"));
        assert_eq!(nearest("ca"), None, "too many begin so");
        assert_eq!(nearest("xylophone"), None);
        assert_eq!(nearest("тигр"), None);
    }
}
