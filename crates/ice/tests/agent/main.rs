//! Agents in simulated networks, on virtual time.

#![allow(clippy::unwrap_used)]

mod connectivity;
mod foreign;
mod hostile;
mod nomination;
mod policy;
mod random_networks;
mod restart;
mod sim;
