//! What either side says of Enhanced RTMP (v2, "Enhancing NetConnection connect Command").
//!
//! Payload is carried as it is, so every codec can be *forwarded*, and nothing more is claimed: whether it can be
//! decoded is a matter of who plays. Of the extensions ([`PASSED`]) those are claimed that change nothing but the
//! payload; not `Multitrack`, since a late joiner is given one sequence header for video and one for audio, and not
//! `Reconnect`, which is a command that nobody here would obey.

use crate::rtmp::amf0::{Properties, Value};

/// What a client's `connect` offers.
pub(super) fn offer() -> Properties {
    let all = || Value::object([("*", Value::Number(CAN_FORWARD))]);
    vec![
        ("fourCcList".to_owned(), Value::StrictArray(vec![Value::string("*")])),
        ("videoFourCcInfoMap".to_owned(), all()),
        ("audioFourCcInfoMap".to_owned(), all()),
        ("capsEx".to_owned(), Value::Number(f64::from(PASSED))),
    ]
}

/// What a server's answer says to `offered`, `connect`'s command object: of each property that the client knows as
/// much as is true here.
pub(super) fn answer(offered: &Value) -> Properties {
    let mut answer = Vec::new();
    if let Some(Value::StrictArray(codecs)) = offered.get("fourCcList") {
        let known = |codec: &&Value| codec.as_str().is_some_and(is_four_cc);
        let codecs = codecs.iter().filter(known).take(FOUR_CCS.len()).cloned().collect();
        answer.push(("fourCcList".to_owned(), Value::StrictArray(codecs)));
    }
    for name in ["videoFourCcInfoMap", "audioFourCcInfoMap"] {
        if let Some(Value::Object(codecs) | Value::EcmaArray(codecs)) = offered.get(name) {
            let known = codecs.iter().filter(|(codec, _)| is_four_cc(codec)).take(FOUR_CCS.len());
            let forwarded = known.map(|(codec, _)| (codec.clone(), Value::Number(CAN_FORWARD)));
            answer.push((name.to_owned(), Value::Object(forwarded.collect())));
        }
    }
    let extensions = offered.get("capsEx").and_then(Value::as_number);
    if extensions.is_some() || !answer.is_empty() {
        // A number that is none becomes 0.
        let both = extensions.unwrap_or_default() as u32 & PASSED;
        answer.push(("capsEx".to_owned(), Value::Number(f64::from(both))));
    }
    answer
}

fn is_four_cc(text: &str) -> bool {
    FOUR_CCS.contains(&text)
}

/// The codecs of Enhanced RTMP v2, `*` standing for all.
const FOUR_CCS: [&str; 13] =
    ["*", "vp08", "vp09", "av01", "avc1", "hvc1", "vvc1", "ac-3", "ec-3", "Opus", ".mp3", "fLaC", "mp4a"];

/// `FourCcInfoMask.CanForward`.
const CAN_FORWARD: f64 = 4.0;

/// `CapsExMask.ModEx` and `.TimestampNanoOffset`: they pass through, and [`crate::media::Unit`] sees through them.
const PASSED: u32 = 0x04 | 0x08;

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(offered: Value) -> Value {
        Value::Object(answer(&offered))
    }

    #[test]
    fn what_is_answered_is_what_passes_through() {
        let map =
            |value: f64| Value::object([("av01", Value::Number(value)), ("zzzz", Value::Number(value))]);
        let reply = answered(Value::object([
            ("videoFourCcInfoMap", map(3.0)),
            ("audioFourCcInfoMap", Value::object([("*", Value::Number(7.0))])),
            ("capsEx", Value::Number(15.0)),
        ]));
        let forwards = |codec| Value::object([(codec, Value::Number(CAN_FORWARD))]);
        assert_eq!(reply.get("videoFourCcInfoMap"), Some(&forwards("av01")));
        assert_eq!(reply.get("audioFourCcInfoMap"), Some(&forwards("*")));
        assert_eq!(reply.get("capsEx"), Some(&Value::Number(12.0)));
        assert_eq!(reply.get("fourCcList"), None);
    }

    #[test]
    fn clients_that_know_nothing_of_it_are_told_nothing() {
        assert_eq!(answer(&Value::object([("app", Value::string("live"))])), []);
        assert_eq!(answer(&Value::Null), []);
    }

    #[test]
    fn an_offer_is_answered_in_full() {
        assert_eq!(answered(Value::Object(offer())), Value::Object(offer()));
    }

    #[test]
    fn long_lists_are_answered_shortly() {
        let codecs = Value::StrictArray(vec![Value::string("hvc1"); 1000]);
        let reply = answered(Value::object([("fourCcList", codecs), ("capsEx", Value::Number(f64::NAN))]));
        let Some(Value::StrictArray(codecs)) = reply.get("fourCcList") else { panic!("{reply:?}") };
        assert_eq!(codecs.len(), FOUR_CCS.len());
        assert_eq!(reply.get("capsEx"), Some(&Value::Number(0.0)));
    }
}
