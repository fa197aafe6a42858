//! The attributes of ICE (RFC 8445 §16.1) and of renomination, which `stun-types` does not have.

use stun_types::attribute::{
    Attribute, AttributeFromRaw, AttributeStaticType, AttributeType, AttributeWrite, RawAttribute,
};
use stun_types::message::StunParseError;
use stun_types::prelude::*;

/// An attribute that is one number, big-endian.
macro_rules! number {
    ($name:ident, $kind:literal, $value:ty, $bytes:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug)]
        pub(super) struct $name(pub(super) $value);

        impl AttributeStaticType for $name {
            const TYPE: AttributeType = AttributeType::new($kind);
        }

        impl Attribute for $name {
            fn get_type(&self) -> AttributeType {
                Self::TYPE
            }

            fn length(&self) -> u16 {
                $bytes
            }
        }

        impl AttributeWrite for $name {
            fn to_raw(&self) -> RawAttribute<'_> {
                RawAttribute::new(Self::TYPE, &self.0.to_be_bytes()).into_owned()
            }

            fn write_into_unchecked(&self, to: &mut [u8]) {
                self.write_header_unchecked(to);
                to[4..4 + $bytes].copy_from_slice(&self.0.to_be_bytes());
            }
        }

        impl AttributeFromRaw<'_> for $name {
            fn from_raw_ref(raw: &RawAttribute<'_>) -> Result<Self, StunParseError> {
                raw.check_type_and_len(Self::TYPE, $bytes..=$bytes)?;
                let value: &[u8] = &raw.value;
                let bytes = value.try_into().map_err(|_| StunParseError::InvalidAttributeData)?;
                Ok(Self(<$value>::from_be_bytes(bytes)))
            }
        }
    };
}

number!(Priority, 0x0024, u32, 4, "PRIORITY: what a peer-reflexive candidate would have.");
number!(IceControlled, 0x8029, u64, 8, "ICE-CONTROLLED with the tie-breaker.");
number!(IceControlling, 0x802a, u64, 8, "ICE-CONTROLLING with the tie-breaker.");
number!(
    Nomination,
    0xc001,
    u32,
    4,
    "The number of a nomination (draft-thatcher-ice-renomination); the type is that of libwebrtc, \
     `STUN_ATTR_NOMINATION` in `api/transport/stun.h`."
);

/// USE-CANDIDATE.
#[derive(Debug)]
pub(super) struct UseCandidate;

impl AttributeStaticType for UseCandidate {
    const TYPE: AttributeType = AttributeType::new(0x0025);
}

impl Attribute for UseCandidate {
    fn get_type(&self) -> AttributeType {
        Self::TYPE
    }

    fn length(&self) -> u16 {
        0
    }
}

impl AttributeWrite for UseCandidate {
    fn to_raw(&self) -> RawAttribute<'_> {
        RawAttribute::new(Self::TYPE, &[])
    }

    fn write_into_unchecked(&self, to: &mut [u8]) {
        self.write_header_unchecked(to);
    }
}
