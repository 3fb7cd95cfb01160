//! Replies that a peer leaves unread.
//!
//! Media is held back while a connection is full, but RTMP answers whatever the peer asks. A peer that asks and does not
//! read would have its answers queue here without end.

/// Bytes of replies that may be queued on a connection that takes none. Only a peer that asks and does not read gets
/// so far: media is held back by then.
pub(crate) const MAX_UNREAD_REPLIES: usize = 64 * 1024;

/// Counts the replies of one connection while it is full.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// Bytes of replies since it was full; nothing while it is not.
    replies: Option<usize>,
}

impl Unread {
    /// Whether the connection is full.
    pub(crate) const fn is_backlogged(&self) -> bool {
        self.replies.is_some()
    }

    /// It is full from here on.
    pub(crate) fn begin(&mut self) {
        self.replies.get_or_insert(0);
    }

    /// It takes more again.
    pub(crate) fn end(&mut self) {
        self.replies = None;
    }

    /// Counts a reply of so many bytes; whether it is still within [`MAX_UNREAD_REPLIES`].
    pub(crate) fn count(&mut self, bytes: usize) -> bool {
        let Some(replies) = &mut self.replies else { return true };
        *replies = replies.saturating_add(bytes);
        *replies <= MAX_UNREAD_REPLIES
    }
}

#[cfg(test)]
mod tests;
