//! rust-libp2p's hole punching, TCP only, with clocks in it: a relay, a listener that waits behind it, and a dialler that
//! wants a direct connection to the listener. One source for every version of libp2p that is compared.
//!
//! ```text
//! dcutr relay  ADDR                     /ip4/A/tcp/P to listen on
//! dcutr listen RELAY                    /ip4/A/tcp/P/p2p/ID, as the relay says it
//! dcutr dial   RELAY PEER [--after-identify]
//! ```
//!
//! One JSON object a line on standard output, `elapsed_ms` counted from the start of the process:
//! `ready` (relay: `addr`; listener: `peer`, its reservation was accepted), `relayed`, `direct` (noise and the
//! multiplexer are agreed on), `failed` (one attempt; libp2p makes three by itself).
//!
//! The dialler asks for the relayed connection at once, which also connects it to the relay. With `--after-identify` it
//! first waits for the relay to say what address it saw, as libp2p's own example does.

#![allow(clippy::disallowed_methods)] // Its own clock: nothing else here knows the time.

use futures::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, dcutr, identify, identity, noise, relay, tcp, yamux};
use serde_json::{Value, json};
use std::error::Error;
use std::io::Write as _;
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn Error>>;

/// Longer than any try: a connection to the relay that is idle must not end under an attempt.
const IDLE: Duration = Duration::from_secs(120);

const PROTOCOL: &str = "/punchcast-bench/1";

#[derive(NetworkBehaviour)]
struct Client {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    dcutr: dcutr::Behaviour,
}

#[derive(NetworkBehaviour)]
struct Server {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
}

struct Clock(Instant);

impl Clock {
    fn say(&self, event: &str, mut fields: Value) {
        fields["event"] = event.into();
        fields["elapsed_ms"] = (self.0.elapsed().as_micros() as f64 / 1000.0).into();
        let mut out = std::io::stdout().lock();
        // A reader that has gone ends the program by a signal of its own.
        let _ = writeln!(out, "{fields}").and_then(|()| out.flush());
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let clock = Clock(Instant::now());
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["relay", addr] => relay(&clock, addr.parse()?).await,
        ["listen", relay] => listen(&clock, relay.parse()?).await,
        ["dial", relay, peer] => dial(&clock, relay.parse()?, peer.parse()?, false).await,
        ["dial", relay, peer, "--after-identify"] => dial(&clock, relay.parse()?, peer.parse()?, true).await,
        _ => Err("relay ADDR | listen RELAY | dial RELAY PEER [--after-identify]".into()),
    }
}

async fn relay(clock: &Clock, addr: Multiaddr) -> Outcome {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| Server {
            relay: relay::Behaviour::new(key.public().to_peer_id(), relay::Config::default()),
            identify: identify(key),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    swarm.listen_on(addr.clone())?;
    // Without one it would grant reservations that name no address.
    swarm.add_external_address(addr);
    let me = *swarm.local_peer_id();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            clock.say("ready", json!({"addr": address.with(Protocol::P2p(me)).to_string()}));
        }
    }
}

async fn listen(clock: &Clock, relay: Multiaddr) -> Outcome {
    let mut swarm = client().await?;
    learn_address(&mut swarm, &relay).await?;
    swarm.listen_on(relay.with(Protocol::P2pCircuit))?;
    let me = *swarm.local_peer_id();
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(ClientEvent::Relay(relay::client::Event::ReservationReqAccepted {
                ..
            })) => {
                clock.say("ready", json!({"peer": me.to_string()}));
            }
            event => tell(clock, event, None),
        }
    }
}

async fn dial(clock: &Clock, relay: Multiaddr, peer: PeerId, after_identify: bool) -> Outcome {
    let mut swarm = client().await?;
    if after_identify {
        learn_address(&mut swarm, &relay).await?;
        clock.say("identified", json!({}));
    }
    swarm.dial(relay.with(Protocol::P2pCircuit).with(Protocol::P2p(peer)))?;
    loop {
        tell(clock, swarm.select_next_some().await, Some(peer));
    }
}

/// A client that listens on every address: libp2p dials from the port that it listens on.
async fn client() -> Result<Swarm<Client>, Box<dyn Error>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, relay| Client {
            relay,
            identify: identify(key),
            dcutr: dcutr::Behaviour::new(key.public().to_peer_id()),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    swarm.listen_on("/ip4/0.0.0.0/tcp/0".parse()?)?;
    // What is dialled before the listener stands leaves from another port. Loopback, and the host's one interface.
    let mut addresses = 0;
    while addresses < 2 {
        if let SwarmEvent::NewListenAddr { .. } = swarm.select_next_some().await {
            addresses += 1;
        }
    }
    Ok(swarm)
}

fn identify(key: &identity::Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new(PROTOCOL.into(), key.public()))
}

/// Connects to the relay, and waits until it has said what address it sees.
async fn learn_address(swarm: &mut Swarm<Client>, relay: &Multiaddr) -> Outcome {
    swarm.dial(relay.clone())?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(ClientEvent::Identify(identify::Event::Received { .. })) => return Ok(()),
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
}

/// Prints what the table is made of. Of connections only those with `peer`; a listener takes whoever is not the relay.
fn tell(clock: &Clock, event: SwarmEvent<ClientEvent>, peer: Option<PeerId>) {
    match event {
        SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. }
            if peer.is_none_or(|peer| peer == peer_id) =>
        {
            let how = if endpoint.is_relayed() { "relayed" } else { "direct" };
            clock.say(how, json!({"remote": endpoint.get_remote_address().to_string()}));
        }
        SwarmEvent::Behaviour(ClientEvent::Dcutr(dcutr::Event { result, .. })) => match result {
            Ok(_) => clock.say("upgraded", json!({})),
            Err(error) => clock.say("failed", json!({"why": error.to_string()})),
        },
        SwarmEvent::OutgoingConnectionError { error, .. } => {
            clock.say("error", json!({"why": error.to_string()}));
        }
        SwarmEvent::NewExternalAddrCandidate { address } => {
            clock.say("candidate", json!({"addr": address.to_string()}));
        }
        _ => {}
    }
}
