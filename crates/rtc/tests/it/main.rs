//! Tests of the public interface over real sockets on this machine; one program, as each links the
//! whole stack.

mod bad_input;
mod common;
mod connection;
mod odd_sdp;
mod video_codecs;
