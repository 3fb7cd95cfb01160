//! What a browser that joins must be given first: the configurations and the group of pictures under way.

use super::packet::{Packet, PacketKind};

/// How large a group is kept. Two seconds at 16 Mbit/s; a longer group takes a decoder longer to catch up with than
/// the key frame takes that is asked for when somebody joins.
pub(super) const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// How many packets a group may have: ten seconds of 60 pictures and 47 sound frames a second.
pub(super) const MAX_GROUP_PACKETS: usize = 1_070;

/// The configurations and the latest group, beginning with its key frame.
#[derive(Debug, Default)]
pub(super) struct Cache {
    video_config: Option<Packet>,
    audio_config: Option<Packet>,
    group: Vec<Packet>,
    group_bytes: usize,
}

impl Cache {
    /// Takes the next packet of the stream.
    pub(super) fn put(&mut self, packet: &Packet) {
        match packet.kind {
            PacketKind::VideoConfig => {
                self.video_config = Some(packet.clone());
                self.forget_group();
            }
            PacketKind::AudioConfig => self.audio_config = Some(packet.clone()),
            PacketKind::VideoFrame if packet.key => {
                self.forget_group();
                self.add(packet);
            }
            // Pictures before a key frame cannot be decoded, and sound that belongs to none would only be late.
            PacketKind::VideoFrame | PacketKind::AudioFrame if self.group.is_empty() => {}
            PacketKind::VideoFrame | PacketKind::AudioFrame => self.add(packet),
        }
        debug_assert!(self.group_bytes <= MAX_GROUP_BYTES && self.group.len() <= MAX_GROUP_PACKETS);
    }

    /// Forgets the stream.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The configurations that there are.
    pub(super) fn configs(&self) -> impl Iterator<Item = &Packet> {
        self.video_config.iter().chain(&self.audio_config)
    }

    /// The group under way; empty when there is none, or none that fits.
    pub(super) fn group(&self) -> &[Packet] {
        &self.group
    }

    fn add(&mut self, packet: &Packet) {
        self.group_bytes += packet.bytes.len();
        // A group without its middle cannot be decoded, so one that outgrows the limit is given up whole.
        if self.group_bytes > MAX_GROUP_BYTES || self.group.len() >= MAX_GROUP_PACKETS {
            self.forget_group();
        } else {
            self.group.push(packet.clone());
        }
    }

    fn forget_group(&mut self) {
        self.group.clear();
        self.group_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn packet(kind: PacketKind, key: bool, size: usize) -> Packet {
        Packet { kind, key, bytes: Bytes::from(vec![0; size]) }
    }

    #[test]
    fn the_group_begins_at_the_last_key_frame() {
        let mut cache = Cache::default();
        cache.put(&packet(PacketKind::VideoFrame, false, 1));
        cache.put(&packet(PacketKind::AudioFrame, true, 1));
        assert!(cache.group().is_empty());
        cache.put(&packet(PacketKind::VideoConfig, false, 1));
        cache.put(&packet(PacketKind::AudioConfig, false, 1));
        for _ in 0..2 {
            cache.put(&packet(PacketKind::VideoFrame, true, 9));
            cache.put(&packet(PacketKind::VideoFrame, false, 3));
        }
        cache.put(&packet(PacketKind::AudioFrame, true, 1));
        let sizes: Vec<usize> = cache.group().iter().map(|packet| packet.bytes.len()).collect();
        assert_eq!(sizes, [9, 3, 1]);
        assert_eq!(cache.configs().count(), 2);
    }

    #[test]
    fn a_group_that_outgrows_the_limit_is_given_up_whole() {
        let mut cache = Cache::default();
        cache.put(&packet(PacketKind::VideoFrame, true, MAX_GROUP_BYTES));
        assert_eq!(cache.group().len(), 1);
        cache.put(&packet(PacketKind::VideoFrame, false, 1));
        assert!(cache.group().is_empty());
        cache.put(&packet(PacketKind::VideoFrame, false, 1));
        assert!(cache.group().is_empty(), "nothing is kept before the next key frame");
        for _ in 0..=MAX_GROUP_PACKETS {
            cache.put(&packet(PacketKind::VideoFrame, true, 1));
            cache.put(&packet(PacketKind::VideoFrame, false, 1));
        }
        assert_eq!(cache.group().len(), 2);
    }
}
