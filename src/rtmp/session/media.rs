//! Between messages and media units.

use super::carrier::Carrier;
use super::channel;
use crate::media::{Kind, Unit};
use crate::rtmp::Error;
use crate::rtmp::amf0;
use crate::rtmp::message::{self, Message};
use bytes::Bytes;

/// Hands the media in `message` to `take`: nothing for what is no media, several units for an aggregate.
///
/// # Errors
/// If there are more than [`MAX_AGGREGATE`].
pub(super) fn units(message: &Message, take: &mut impl FnMut(Unit)) -> Result<(), Error> {
    match message.kind {
        message::AGGREGATE => split_aggregate(message, take),
        kind => {
            unit(kind, message.timestamp, &message.payload).into_iter().for_each(take);
            Ok(())
        }
    }
}

/// Whether `kind` is what [`units`] takes.
pub(super) const fn is_media(kind: u8) -> bool {
    matches!(kind, message::AUDIO | message::VIDEO | message::DATA | message::DATA_AMF3 | message::AGGREGATE)
}

/// Queues `unit` on message stream `stream`. A publisher's metadata is wrapped so that the server keeps it.
pub(super) fn send(carrier: &mut Carrier, stream: u32, unit: &Unit, publisher: bool) -> Result<(), Error> {
    let id = match unit.kind {
        Kind::Audio => channel::AUDIO,
        Kind::Video => channel::VIDEO,
        Kind::Data => channel::DATA,
    };
    let payload = if publisher && unit.is_metadata() {
        let mut payload = Vec::with_capacity(32 + unit.payload.len());
        amf0::encode_string(SET_DATA_FRAME, &mut payload);
        payload.extend_from_slice(&unit.payload);
        payload.into()
    } else {
        unit.payload.clone()
    };
    let timestamp = unit.written_time();
    carrier.send(id, &Message { kind: unit.kind as u8, stream, timestamp, payload })
}

fn unit(kind: u8, timestamp: u32, payload: &Bytes) -> Option<Unit> {
    // Some encoders send empty audio messages as a sign of life.
    if payload.is_empty() {
        return None;
    }
    match kind {
        message::AUDIO => Some(Unit { kind: Kind::Audio, timestamp, payload: payload.clone() }),
        message::VIDEO => Some(Unit { kind: Kind::Video, timestamp, payload: payload.clone() }),
        message::DATA => data(payload).map(|payload| Unit { kind: Kind::Data, timestamp, payload }),
        message::DATA_AMF3 => {
            data(&payload.slice(1..)).map(|payload| Unit { kind: Kind::Data, timestamp, payload })
        }
        _ => None,
    }
}

/// The data message as it stands in a file: what `@setDataFrame` wraps is unwrapped, and what only concerns the
/// connection is left out.
fn data(payload: &Bytes) -> Option<Bytes> {
    let (name, length) = amf0::leading_string(payload)?;
    match name {
        b"@setDataFrame" => {
            let inner = payload.slice(length..);
            first_string(&inner).is_some().then_some(inner)
        }
        // Player-side notices and access rights of Flash.
        b"@clearDataFrame" | b"onStatus" | b"|RtmpSampleAccess" => None,
        _ => Some(payload.clone()),
    }
}

fn first_string(payload: &[u8]) -> Option<&str> {
    amf0::leading_string(payload).and_then(|(name, _)| std::str::from_utf8(name).ok())
}

/// An aggregate is a sequence of FLV tags, each with its size behind it (§7.1.6). The first tag's clock is the message's.
/// Each unit is a copy: a reference would keep all of the message for as long as any unit of it is kept, and who counts
/// units by their length would not see it.
fn split_aggregate(message: &Message, take: &mut impl FnMut(Unit)) -> Result<(), Error> {
    let mut at = 0;
    let (mut first, mut count) = (None, 0);
    while let Some(header) = message.payload.get(at..).and_then(|rest| rest.first_chunk::<11>()) {
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        let timestamp = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        let start = at + header.len();
        if message.payload.len() - start < length {
            break;
        }
        count += 1;
        if count > MAX_AGGREGATE {
            return Err(Error::TooManyUnits);
        }
        let offset = timestamp.wrapping_sub(*first.get_or_insert(timestamp));
        let payload = Bytes::copy_from_slice(&message.payload[start..start + length]);
        if let Some(unit) = unit(header[0], message.timestamp.wrapping_add(offset), &payload) {
            take(unit);
        }
        at = start + length + TAG_SIZE;
    }
    Ok(())
}

const SET_DATA_FRAME: &str = "@setDataFrame";

/// The most units in an aggregate. Servers gather some hundred milliseconds; without a bound a message of the longest kind
/// would come apart in half a million.
const MAX_AGGREGATE: usize = 1024;

/// The size field behind each tag.
const TAG_SIZE: usize = 4;
