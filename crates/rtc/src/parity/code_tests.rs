#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Blocks of one octet each.
fn parity(index: u8, blocks: std::ops::Range<u64>, known: &[bool]) -> (BTreeMap<u64, u8>, Vec<u8>) {
    let mut unknowns = BTreeMap::new();
    let mut sum = vec![0];
    for block in blocks {
        let factor = weight(index, (block % 128) as u8);
        add_scaled(&mut sum, &[value(block)], factor);
        if known[block as usize] {
            add_scaled(&mut sum, &[value(block)], factor);
        } else {
            unknowns.insert(block, factor);
        }
    }
    (unknowns, sum)
}

fn value(block: u64) -> u8 {
    (block * 77 + 13) as u8
}

/// Gilbert's model.
struct Path {
    loss: f64,
    burst: f64,
    bad: bool,
    state: u64,
}

impl Path {
    fn new(loss: f64, burst: f64) -> Self {
        Self { loss, burst, bad: false, state: 7 }
    }

    fn loses(&mut self) -> bool {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = (self.state >> 40) as f64 / (1u64 << 24) as f64;
        let lost = self.bad;
        let leave_bad = 1.0 / self.burst;
        let turns = if self.bad { leave_bad } else { self.loss * leave_bad / (1.0 - self.loss) };
        self.bad ^= random < turns;
        lost
    }
}

proptest! {
    #[test]
    fn as_many_parities_as_losses_of_one_window_repair_them(
        first in 0u64..300,
        blocks in 1u64..=MAX_BLOCKS as u64,
        index: u8,
        losses in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let window = first..first + blocks;
        let mut known = vec![true; 500];
        for lost in &losses {
            known[first as usize + lost.index(blocks as usize)] = false;
        }
        let missing: Vec<u64> = window.clone().filter(|b| !known[*b as usize]).collect();
        let mut equations = Equations::default();
        for n in 0..missing.len() {
            prop_assert!(equations.pop_solved().is_none());
            let (unknowns, sum) = parity(index.wrapping_add(n as u8), window.clone(), &known);
            equations.add(unknowns, sum);
        }
        let mut found: Vec<_> = std::iter::from_fn(|| equations.pop_solved()).collect();
        found.sort();
        let expected: Vec<_> = missing.iter().map(|b| (*b, vec![value(*b)])).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn packets_and_parities_in_any_order_repair_what_they_can(
        events in prop::collection::vec((any::<bool>(), 0u64..64, 1u64..32), 0..120),
    ) {
        let mut known = vec![false; 128];
        let mut equations = Equations::default();
        for (n, (is_block, number, blocks)) in events.into_iter().enumerate() {
            if is_block {
                if !std::mem::replace(&mut known[number as usize], true) {
                    equations.on_block(number, |sum, factor| add_scaled(sum, &[value(number)], factor));
                }
            } else {
                let (unknowns, sum) = parity(n as u8, number..number + blocks, &known);
                equations.add(unknowns, sum);
            }
            while let Some((block, data)) = equations.pop_solved() {
                prop_assert_eq!(&data, &[value(block)]);
                prop_assert!(!known[block as usize]);
                known[block as usize] = true;
                equations.on_block(block, |sum, factor| add_scaled(sum, &data, factor));
            }
        }
    }
}

/// Shares of pictures that are whole as late as so many pictures after their own parity, on a path
/// that loses 10 % in bursts of 4.
fn lateness(window: u64) -> Vec<f64> {
    const PICTURES: u64 = 4000;
    const BLOCKS: u64 = 9;
    let count = parity_blocks(BLOCKS as usize, 0.1, 4.0, 0.06, BLOCKS as usize);
    let mut path = Path::new(0.1, 4.0);
    let mut known = vec![false; (PICTURES * BLOCKS) as usize];
    let mut equations = Equations::default();
    let (mut index, mut whole) = (0u8, 0);
    let mut late = vec![0.0; 6];
    for picture in 0..PICTURES {
        for block in picture * BLOCKS..(picture + 1) * BLOCKS {
            known[block as usize] = !path.loses();
        }
        for _ in 0..count {
            index = index.wrapping_add(1);
            if !path.loses() {
                let first = (picture + 1).saturating_sub(window) * BLOCKS;
                let (unknowns, sum) = parity(index, first..(picture + 1) * BLOCKS, &known);
                equations.add(unknowns, sum);
            }
        }
        while let Some((block, data)) = equations.pop_solved() {
            known[block as usize] = true;
            assert_eq!(data, [value(block)]);
        }
        // Retransmissions come five pictures later.
        if let Some(old) = picture.checked_sub(5) {
            for block in old * BLOCKS..(old + 1) * BLOCKS {
                if !std::mem::replace(&mut known[block as usize], true) {
                    equations
                        .on_block(block, |sum, factor| add_scaled(sum, &[value(block)], factor));
                }
            }
        }
        while whole <= picture
            && (whole * BLOCKS..(whole + 1) * BLOCKS).all(|block| known[block as usize])
        {
            late[(picture - whole) as usize] += 1.0 / PICTURES as f64;
            whole += 1;
        }
    }
    late
}

#[test]
fn a_window_of_three_pictures_beats_parity_for_each_alone() {
    let (alone, three) = (lateness(1), lateness(3));
    // Those that had to wait for a retransmission.
    assert!(alone[4] + alone[5] > 0.05, "{alone:?}");
    assert!(three[4] + three[5] < 0.004, "{three:?}");
    assert!(three[0] > 0.92, "{three:?}");
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
    let mut path = Path::new(0.1, 1.0 / 0.9);
    let failed = (0..20_000)
        .filter(|_| (0..9 + independent).filter(|_| path.loses()).count() > independent)
        .count();
    assert!(failed <= 1000, "{failed} of 20000");
}
