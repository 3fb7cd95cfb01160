//! The table: which surroundings lead to which rung, every time.

use crate::lab::permitted;
use crate::scene::{cast_through, every_time, repeats, times};

#[test]
fn two_nats_with_stable_mapping_that_drop_are_punched_every_time() {
    if !permitted() {
        return;
    }
    let homes = ["viewer:nat=eim-apdf", "caster:nat=eim-apdf"];
    every_time(repeats(), |index| {
        // The order of the hosts is the order of their addresses, by which a program might break a tie.
        let [first, second] = if index % 2 == 0 { homes } else { [homes[1], homes[0]] };
        cast_through(&["server:public", first, second], &["punched"]);
    });
}

#[test]
fn a_nat_before_one_side_only_leaves_the_other_to_be_dialled_every_time() {
    if !permitted() {
        return;
    }
    every_time(repeats(), |index| {
        if index % 2 == 0 {
            cast_through(&["server:public", "viewer:public", "caster:nat=eim-apdf"], &["public"]);
        } else {
            cast_through(&["server:public", "viewer:nat=eim-apdf", "caster:public"], &["reverse"]);
        }
    });
}

#[test]
fn a_firewall_before_the_viewer_is_passed_by_dialling_back_every_time() {
    if !permitted() {
        return;
    }
    every_time(repeats(), |_| {
        cast_through(&["server:public", "viewer:firewall", "caster:public"], &["reverse"]);
    });
}

#[test]
fn two_hosts_on_one_lan_meet_there_with_a_daemon_every_time() {
    if !permitted() {
        return;
    }
    every_time(repeats(), |index| {
        let pair = if index % 2 == 0 {
            ["viewer:nat", "caster:lan=viewer"]
        } else {
            ["caster:nat", "viewer:lan=caster"]
        };
        cast_through(&["server:public", pair[0], pair[1]], &["lan"]);
    });
}

#[test]
fn two_hosts_on_one_lan_meet_there_without_any_daemon_every_time() {
    if !permitted() {
        return;
    }
    every_time(repeats(), |index| {
        if index % 2 == 0 {
            cast_through(&["viewer:nat", "caster:lan=viewer"], &["lan"]);
        } else {
            // No way out at all: no default route, nothing that answers.
            cast_through(&["viewer:lan", "caster:lan=viewer"], &["lan"]);
        }
    });
}

/// Both sides' SYNs are needed here. Yet an address that nothing translates looks public to its owner and to the
/// daemon, so the rung may bear the name of the side without a NAT.
#[test]
fn a_firewall_on_one_side_and_a_nat_on_the_other_are_linked_directly() {
    if !permitted() {
        return;
    }
    every_time(2, |index| {
        let pair = [["viewer:firewall", "caster:nat"], ["viewer:nat", "caster:firewall"]][index as usize];
        let by_address = ["public", "reverse"][index as usize];
        cast_through(&["server:public", pair[0], pair[1]], &["punched", by_address]);
    });
}

#[test]
fn a_nat_behind_a_nat_is_punched_like_one() {
    if !permitted() {
        return;
    }
    every_time(2, |index| {
        let double = "nat=eim-apdf,eim-apdf";
        let (viewer, caster) = if index == 0 { (double, "nat") } else { ("nat", double) };
        cast_through(
            &["server:public", &format!("viewer:{viewer}"), &format!("caster:{caster}")],
            &["punched"],
        );
    });
}

/// Both homes have 192.168.1.0/24, so the other's own address leads to a stranger, or to oneself.
#[test]
fn homes_with_the_same_private_network_do_not_mistake_it_for_one() {
    if !permitted() {
        return;
    }
    every_time(2, |_| {
        cast_through(
            &["server:public", "viewer:nat+home=192.168.1", "caster:nat+home=192.168.1"],
            &["punched"],
        );
    });
}

/// Each NAT answers the other side's first SYN with RST, and the RST takes the sender's session with it.
#[test]
fn two_nats_that_answer_rst_are_punched_every_time_and_soon() {
    if !permitted() {
        return;
    }
    let times = times(repeats(), |_| {
        Some(cast_through(&["server:public", "viewer:nat-rst", "caster:nat-rst"], &["punched"]))
    });
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    assert!(median < 600.0 && worst < 2500.0, "median {median} ms, worst {worst} ms: {times:?}");
}

#[test]
fn a_nat_that_answers_rst_on_one_side_is_punched_every_time() {
    if !permitted() {
        return;
    }
    every_time(repeats(), |index| {
        let pair = [["viewer:nat-rst", "caster:nat"], ["viewer:nat", "caster:nat-rst"]][index as usize % 2];
        cast_through(&["server:public", pair[0], pair[1]], &["punched"]);
    });
}

/// Casts through `topology` again and again; at least `enough` of the tries must link by prediction, and the median within
/// a second.
fn predicted_often_and_soon(tries: u32, enough: usize, pairs: &[[&str; 2]]) {
    let times = times(tries, |index| {
        let [viewer, caster] = pairs[index as usize % pairs.len()];
        // A try that draws badly may come to nothing; whether too many do is for the count to say.
        std::panic::catch_unwind(|| cast_through(&["server:public", viewer, caster], &["predicted"])).ok()
    });
    assert!(times.len() >= enough, "{} of {tries} linked: {times:?}", times.len());
    let median = times[times.len() / 2];
    assert!(median < 1000.0, "median {median} ms: {times:?}");
}

#[test]
fn a_nat_that_draws_ports_meets_a_stable_one_by_birthday() {
    if !permitted() {
        return;
    }
    let tries = repeats();
    let pairs = [["viewer:nat=apdm-apdf", "caster:nat"], ["viewer:nat", "caster:nat=apdm-apdf"]];
    predicted_often_and_soon(tries, tries as usize * 19 / 20, &pairs);
}

#[test]
fn a_nat_that_draws_ports_meets_a_stable_one_though_both_answer_rst() {
    if !permitted() {
        return;
    }
    let tries = repeats();
    let pairs =
        [["viewer:nat=apdm-apdf-rst", "caster:nat-rst"], ["viewer:nat-rst", "caster:nat=apdm-apdf-rst"]];
    predicted_often_and_soon(tries, tries as usize * 18 / 20, &pairs);
}

#[test]
fn a_nat_that_counts_ports_is_predicted_every_time() {
    if !permitted() {
        return;
    }
    let tries = repeats();
    let pairs = [["viewer:nat=apdm-apdf-seq", "caster:nat"], ["viewer:nat", "caster:nat=apdm-apdf-seq"]];
    predicted_often_and_soon(tries, tries as usize, &pairs);
}
