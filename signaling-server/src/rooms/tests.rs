//! Unit tests of the rooms on virtual time.
