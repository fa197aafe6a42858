//! The erasure code: parity packets are sums of blocks over GF(2^8), each block times a weight from a
//! Cauchy matrix; the receiver solves the equations that they are. Pure.
//!
//! A parity of plain sums (as in FlexFEC, RFC 8627) repairs one loss a group and needs more parity
//! for the same protection; see `docs/decisions/0007-loss-recovery.md`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Blocks in one parity block at most. Weights repeat after as many blocks and as many parities.
pub(super) const MAX_BLOCKS: usize = 128;

/// Products of all pairs.
struct Field {
    product: Box<[[u8; 256]; 256]>,
    inverse: [u8; 256],
}

static FIELD: LazyLock<Field> = LazyLock::new(|| {
    // Powers of 2 modulo x^8 + x^4 + x^3 + x^2 + 1, which generates all but zero.
    let (mut exp, mut log) = ([0u8; 255], [0usize; 256]);
    let mut x = 1u16;
    for (power, slot) in exp.iter_mut().enumerate() {
        *slot = x.to_be_bytes()[1];
        log[usize::from(*slot)] = power;
        x <<= 1;
        if x & 0x100 != 0 {
            x ^= 0x11d;
        }
    }
    let mut product = vec![[0u8; 256]; 256];
    let mut inverse = [0u8; 256];
    for a in 1..256 {
        for b in 1..256 {
            product[a][b] = exp[(log[a] + log[b]) % 255];
        }
        inverse[a] = exp[(255 - log[a]) % 255];
    }
    let product = product.try_into().unwrap_or_else(|_| Box::new([[0; 256]; 256]));
    Field { product, inverse }
});

/// The weight of block `block` in parity block `parity`: 1 / (parity + (128 + block)), a Cauchy
/// matrix, of which every square part can be inverted.
pub(super) fn weight(parity: u8, block: u8) -> u8 {
    FIELD.inverse[usize::from((parity & 127) ^ (128 | block))]
}

/// `to += factor * from`; `from` may be shorter, its rest counts as zero.
pub(super) fn add_scaled(to: &mut [u8], from: &[u8], factor: u8) {
    let row = &FIELD.product[usize::from(factor)];
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= row[usize::from(*from)];
    }
}

/// What parity says of the blocks that are missing: linear equations in reduced row echelon form.
/// Blocks have numbers that do not repeat.
#[derive(Debug, Default)]
pub(super) struct Equations(Vec<Equation>);

/// The weighted sum of the blocks in `unknowns`. The first of them has weight 1 and stands in no
/// other equation.
#[derive(Debug)]
struct Equation {
    unknowns: BTreeMap<u64, u8>,
    sum: Vec<u8>,
}

impl Equation {
    fn pivot(&self) -> Option<u64> {
        self.unknowns.first_key_value().map(|(block, _)| *block)
    }

    fn subtract(&mut self, other: &Self, factor: u8) {
        for (&block, &weight) in &other.unknowns {
            let product = FIELD.product[usize::from(factor)][usize::from(weight)];
            let entry = self.unknowns.entry(block).or_default();
            *entry ^= product;
            if *entry == 0 {
                self.unknowns.remove(&block);
            }
        }
        if self.sum.len() < other.sum.len() {
            self.sum.resize(other.sum.len(), 0);
        }
        add_scaled(&mut self.sum, &other.sum, factor);
    }
}

impl Equations {
    /// Takes the equation of a parity block. It says nothing new if the others imply it.
    pub(super) fn add(&mut self, unknowns: BTreeMap<u64, u8>, sum: Vec<u8>) {
        let mut equation = Equation { unknowns, sum };
        for other in &self.0 {
            if let Some(factor) =
                other.pivot().and_then(|pivot| equation.unknowns.get(&pivot).copied())
            {
                equation.subtract(other, factor);
            }
        }
        self.insert(equation);
    }

    /// With the known ones gone: scaled, and its first unknown taken out of the others.
    fn insert(&mut self, mut equation: Equation) {
        let Some((&pivot, &factor)) = equation.unknowns.first_key_value() else { return };
        let scale = &FIELD.product[usize::from(FIELD.inverse[usize::from(factor)])];
        equation.unknowns.values_mut().for_each(|w| *w = scale[usize::from(*w)]);
        equation.sum.iter_mut().for_each(|byte| *byte = scale[usize::from(*byte)]);
        for other in &mut self.0 {
            if let Some(&factor) = other.unknowns.get(&pivot) {
                other.subtract(&equation, factor);
            }
        }
        self.0.push(equation);
    }

    /// Block number `block` came; `write` adds it, times a factor, to a sum.
    pub(super) fn on_block(&mut self, block: u64, write: impl Fn(&mut [u8], u8)) {
        let mut orphan = None;
        for at in (0..self.0.len()).rev() {
            let was_pivot = self.0[at].pivot() == Some(block);
            if let Some(factor) = self.0[at].unknowns.remove(&block) {
                write(&mut self.0[at].sum, factor);
                if was_pivot {
                    orphan = Some(self.0.swap_remove(at));
                }
            }
        }
        if let Some(equation) = orphan {
            self.insert(equation);
        }
    }

    /// Takes out a block that the equations give.
    pub(super) fn pop_solved(&mut self) -> Option<(u64, Vec<u8>)> {
        let at = self.0.iter().position(|e| e.unknowns.len() == 1)?;
        let equation = self.0.swap_remove(at);
        Some((equation.pivot()?, equation.sum))
    }

    /// Drops the equations that speak of blocks below `block`, and the oldest beyond `most`.
    pub(super) fn forget(&mut self, block: u64, most: usize) {
        self.0.retain(|e| e.pivot().is_some_and(|pivot| pivot >= block));
        while self.0.len() > most {
            self.0.remove(0);
        }
    }
}

/// Parity blocks that leave a group of `blocks` unrepairable with a chance of at most `residual`,
/// `most` at most, on a path that loses `loss` of its packets, `burst` in a row on the mean
/// (a Gilbert model: it loses all packets in one state and none in the other).
pub(super) fn parity_blocks(
    blocks: usize,
    loss: f64,
    burst: f64,
    residual: f64,
    most: usize,
) -> usize {
    if loss <= 0.0 || blocks == 0 {
        return 0;
    }
    let loss = loss.min(0.6);
    let leave_bad = 1.0 / burst.max(1.0 / (1.0 - loss));
    let enter_bad = (loss * leave_bad / (1.0 - loss)).min(1.0);
    // Chances by number of losses so far, in the good and in the bad state.
    let mut good = vec![0.0; blocks + most + 1];
    let mut bad = good.clone();
    (good[0], bad[0]) = (1.0 - loss, loss);
    for sent in 1..=blocks + most {
        // The packet is lost in the bad state; then the state changes for the next.
        for lost in (0..=sent).rev() {
            let from_bad = if lost > 0 { bad[lost - 1] } else { 0.0 };
            let from_good = good[lost];
            good[lost] = from_good * (1.0 - enter_bad) + from_bad * leave_bad;
            bad[lost] = from_good * enter_bad + from_bad * (1.0 - leave_bad);
        }
        if sent >= blocks {
            let parity = sent - blocks;
            let repaired: f64 = (0..=parity).map(|lost| good[lost] + bad[lost]).sum();
            if 1.0 - repaired <= residual {
                return parity;
            }
        }
    }
    most
}

#[cfg(test)]
#[path = "code_tests.rs"]
mod tests;
