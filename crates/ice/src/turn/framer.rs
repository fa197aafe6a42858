//! Messages in a stream to a relay (RFC 8656 §12.5): STUN as it is, ChannelData padded to four bytes.

use crate::error::IceError;

/// Cuts the bytes of a stream into messages.
#[derive(Debug, Default)]
pub struct TurnFramer {
    buffer: Vec<u8>,
    /// Of the buffer, cut already.
    taken: usize,
}

impl TurnFramer {
    /// Bytes came. At most 64 KiB at a time; messages are to be taken before more is given.
    ///
    /// # Errors
    ///
    /// [`IceError::StunEncoding`] if more is kept than one message and one read have.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), IceError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.len() + bytes.len() > MAX_BUFFER_BYTES {
            return Err(IceError::StunEncoding("the stream is ahead of its reader"));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole message, without padding.
    ///
    /// # Errors
    ///
    /// [`IceError::StunEncoding`] for what is neither STUN nor ChannelData: the stream is of no more use.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, IceError> {
        let rest = &self.buffer[self.taken..];
        let Some([first, _, l0, l1]) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let (message, padded) = match first {
            0..=3 => (20 + length, 20 + length),
            64..=79 => (4 + length, (4 + length).next_multiple_of(4)),
            _ => return Err(IceError::StunEncoding("neither STUN nor ChannelData in a stream")),
        };
        if rest.len() < padded {
            return Ok(None);
        }
        let start = self.taken;
        self.taken += padded;
        Ok(Some(&self.buffer[start..start + message]))
    }
}

/// The largest message and one read.
const MAX_BUFFER_BYTES: usize = 2 * 65_536 + 24;
