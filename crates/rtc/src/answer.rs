//! Where our answers say something else than the stack's.
//!
//! - Who is client and who is server of DTLS (`a=setup`, RFC 8842): the stack always says `active`. Once there is an
//!   association that is a change of roles for a side that is its server, which only a new association would allow
//!   (§5.5), and browsers refuse it.
//! - Media beyond one audio and one video, a shared screen say: the stack would receive it and nobody look at it.

/// The role of one side in the DTLS association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// `active`.
    Client,
    /// `passive`.
    Server,
}

impl Role {
    /// The role that an answer takes; nothing if it leaves that open.
    pub(crate) fn of(answer: &str) -> Option<Self> {
        answer.lines().find_map(|line| match line.trim_end().strip_prefix("a=setup:")? {
            "active" => Some(Self::Client),
            "passive" => Some(Self::Server),
            _ => None,
        })
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// The answer with this role.
    pub(crate) fn put_into(self, answer: &str) -> String {
        let setup = match self {
            Self::Client => "a=setup:active\r\n",
            Self::Server => "a=setup:passive\r\n",
        };
        let line = |line| if str::starts_with(line, "a=setup:") { setup } else { line };
        answer.split_inclusive('\n').map(line).collect()
    }
}

/// The answer in which every audio and video after the first of its kind is `inactive`.
pub(crate) fn with_one_of_each(answer: &str) -> String {
    let (mut audio, mut video, mut extra) = (false, false, false);
    let line = |line| {
        let media =
            |kind: &str| str::strip_prefix(line, kind).is_some_and(|rest| !rest.starts_with("0 "));
        if line.starts_with("m=") {
            extra = (audio && media("m=audio ")) || (video && media("m=video "));
            audio |= media("m=audio ");
            video |= media("m=video ");
        }
        let direction = ["a=sendrecv", "a=recvonly", "a=sendonly"].contains(&line.trim_end());
        if extra && direction { "a=inactive\r\n" } else { line }
    };
    answer.split_inclusive('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_and_put_into_every_section() {
        let answer = "v=0\r\nm=audio\r\na=setup:active\r\nm=video\r\na=setup:active\r\na=mid:1\r\n";
        let role = Role::of(answer);
        assert_eq!(role, Some(Role::Client));
        let other = Role::Client.other().put_into(answer);
        assert_eq!(other, answer.replace("active", "passive"));
        assert_eq!(Role::of(&other), Some(Role::Server));
        assert_eq!(Role::of("v=0\r\na=setup:actpass\r\n"), None);
    }

    #[test]
    fn only_the_first_audio_and_the_first_video_are_taken() {
        let section = |media: &str, direction| {
            format!("m={media} UDP/TLS/RTP/SAVPF 102\r\na={direction}\r\n")
        };
        let first =
            ["audio 9", "video 0", "video 9"].map(|media| section(media, "sendrecv")).concat();
        let answer =
            |more| format!("v=0\r\n{first}m=application 9 SCTP\r\n{}", section("video 9", more));
        assert_eq!(with_one_of_each(&answer("recvonly")), answer("inactive"));
    }
}
