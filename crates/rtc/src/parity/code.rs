//! The erasure code: a systematic Cauchy Reed-Solomon code over GF(2^8). From `k` blocks it makes up
//! to 128 parity blocks; any `k` of them all give the blocks back. Pure.
//!
//! A parity of sums alone (as in FlexFEC, RFC 8627) repairs one loss a group and needs more parity
//! for the same protection; see `docs/decisions/0007-loss-recovery.md`.

use std::sync::LazyLock;

/// Blocks protected together at most, and parity blocks made of them at most.
pub(crate) const MAX_BLOCKS: usize = 128;

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
fn weight(parity: u8, block: u8) -> u8 {
    FIELD.inverse[usize::from(parity ^ (128 | block))]
}

/// `to += factor * from`; `from` may be shorter, its rest counts as zero.
fn add_scaled(to: &mut [u8], from: &[u8], factor: u8) {
    let row = &FIELD.product[usize::from(factor)];
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= row[usize::from(*from)];
    }
}

/// Adds block number `block` to parity number `parity` (both below [`MAX_BLOCKS`]).
pub(crate) fn accumulate(parity: &mut [u8], parity_index: u8, block: &[u8], block_index: u8) {
    add_scaled(parity, block, weight(parity_index & 127, block_index & 127));
}

/// Finds the blocks `missing` from as many parity blocks. Each parity is given with its index, and
/// the blocks that are there have been added to it by [`accumulate`] again, so that only the
/// missing ones are left in it. `None` if there is too little parity.
pub(crate) fn solve(missing: &[u8], mut parity: Vec<(u8, Vec<u8>)>) -> Option<Vec<Vec<u8>>> {
    let n = missing.len();
    if parity.len() < n || n > MAX_BLOCKS {
        return None;
    }
    parity.truncate(n);
    let mut matrix: Vec<Vec<u8>> = parity
        .iter()
        .map(|(index, _)| missing.iter().map(|block| weight(index & 127, block & 127)).collect())
        .collect();
    // Gauss-Jordan.
    for column in 0..n {
        let pivot = (column..n).find(|&row| matrix[row][column] != 0)?;
        matrix.swap(column, pivot);
        parity.swap(column, pivot);
        let scale = FIELD.inverse[usize::from(matrix[column][column])];
        let product = &FIELD.product[usize::from(scale)];
        matrix[column].iter_mut().for_each(|v| *v = product[usize::from(*v)]);
        parity[column].1.iter_mut().for_each(|v| *v = product[usize::from(*v)]);
        for row in 0..n {
            let factor = matrix[row][column];
            if row == column || factor == 0 {
                continue;
            }
            let (pivot_row, pivot_data) = (matrix[column].clone(), parity[column].1.clone());
            add_scaled(&mut matrix[row], &pivot_row, factor);
            add_scaled(&mut parity[row].1, &pivot_data, factor);
        }
    }
    Some(parity.into_iter().map(|(_, data)| data).collect())
}

/// Parity blocks that leave a group of `blocks` unrepairable with a chance of at most `residual`,
/// `most` at most, on a path that loses `loss` of its packets, `burst` in a row on the mean
/// (a Gilbert model: it loses all packets in one state and none in the other).
pub(crate) fn parity_blocks(
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
mod tests {
    use super::*;

    fn blocks(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|n| (0..40 + n).map(|i| (i * 31 + n * 77 + i * i) as u8).collect()).collect()
    }

    #[test]
    fn any_losses_up_to_the_parity_are_repaired() {
        let blocks = blocks(12);
        let longest = blocks.iter().map(Vec::len).max().unwrap_or(0);
        let parity: Vec<Vec<u8>> = (0..5u8)
            .map(|p| {
                let mut data = vec![0; longest];
                for (n, block) in blocks.iter().enumerate() {
                    accumulate(&mut data, p, block, n as u8);
                }
                data
            })
            .collect();
        for mask in 0..1u32 << 17 {
            let lost = |n: usize| mask >> n & 1 == 1;
            let missing: Vec<u8> = (0..12u8).filter(|n| lost(usize::from(*n))).collect();
            let there: Vec<u8> = (0..5u8).filter(|p| !lost(12 + usize::from(*p))).collect();
            // Every seventh pattern is enough.
            if mask % 7 != 0 || missing.is_empty() || missing.len() > there.len() {
                continue;
            }
            let reduced = there
                .iter()
                .map(|&p| {
                    let mut data = parity[usize::from(p)].clone();
                    for n in (0..12u8).filter(|n| !missing.contains(n)) {
                        accumulate(&mut data, p, &blocks[usize::from(n)], n);
                    }
                    (p, data)
                })
                .collect();
            let found = solve(&missing, reduced).expect("enough parity");
            for (n, data) in missing.iter().zip(found) {
                let block = &blocks[usize::from(*n)];
                assert_eq!(data[..block.len()], block[..]);
                assert!(data[block.len()..].iter().all(|b| *b == 0));
            }
        }
    }

    #[test]
    fn too_little_parity_is_not_enough() {
        assert_eq!(solve(&[1, 2], vec![(0, vec![1, 2, 3])]), None);
    }

    #[test]
    fn parity_follows_loss_and_bursts() {
        assert_eq!(parity_blocks(9, 0.0, 1.0, 0.05, 9), 0);
        assert_eq!(parity_blocks(9, 0.03, 1.0, 0.05, 9), 1);
        let independent = parity_blocks(9, 0.1, 1.0, 0.05, 9);
        assert!((2..=3).contains(&independent), "{independent}");
        let bursts = parity_blocks(9, 0.1, 4.0, 0.05, 9);
        assert!(bursts > independent, "{bursts}");
        assert_eq!(parity_blocks(9, 0.5, 4.0, 0.001, 9), 9);
        // Against a simulation of independent losses.
        let mut state = 7u64;
        let mut failed = 0;
        for _ in 0..20_000 {
            let lost = (0..9 + independent)
                .filter(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) % 10 == 0
                })
                .count();
            failed += u32::from(lost > independent);
        }
        assert!(failed <= 1000, "{failed} of 20000");
    }
}
