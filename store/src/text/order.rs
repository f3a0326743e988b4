//! In which order to merge: branch after branch, the short one of two first.
//!
//! Any order that respects what came after what gives the same text. This one goes to and fro between branches
//! least: of two branches the one that is taken first is taken back once and done again once.

use super::ops::{Ops, Slot};

/// Sorts ops that are in order of arrival.
pub(crate) fn by_branch(ops: &Ops, slots: &[Slot]) -> Vec<Slot> {
    // Each on top of the one before: nothing to choose.
    let chain = slots.windows(2).all(|pair| ops.parents(pair[1]).iter().all(|(parent, _)| *parent == pair[0]) && !ops.parents(pair[1]).is_empty());
    if chain {
        return slots.to_vec();
    }
    let local = |slot: Slot| slots.binary_search(&slot).ok();
    let mut waits_for = vec![0u32; slots.len()];
    let mut kids_at = vec![0u32; slots.len() + 1];
    let mut links: Vec<(u32, u32)> = Vec::new();
    for (at, slot) in slots.iter().enumerate() {
        let mut last = None;
        let mut parents: Vec<usize> = ops.parents(*slot).iter().filter_map(|(parent, _)| local(*parent)).collect();
        parents.sort_unstable();
        for parent in parents {
            if last != Some(parent) {
                waits_for[at] += 1;
                kids_at[parent + 1] += 1;
                links.push((parent as u32, at as u32));
                last = Some(parent);
            }
        }
    }
    for at in 0..slots.len() {
        kids_at[at + 1] += kids_at[at];
    }
    links.sort_unstable();
    let kids = |at: usize| &links[kids_at[at] as usize..kids_at[at + 1] as usize];
    // Events from an op up to where its branch meets another.
    let mut weight: Vec<u64> = vec![0; slots.len()];
    for at in (0..slots.len()).rev() {
        let below: u64 = kids(at).iter().filter(|(_, kid)| waits_for[*kid as usize] == 1).map(|(_, kid)| weight[*kid as usize]).sum();
        weight[at] = u64::from(ops.record(slots[at]).events) + below;
    }
    let mut stack: Vec<u32> = (0..slots.len() as u32).filter(|at| waits_for[*at as usize] == 0).collect();
    stack.sort_by_key(|at| std::cmp::Reverse(weight[*at as usize]));
    let mut order = Vec::with_capacity(slots.len());
    while let Some(at) = stack.pop() {
        order.push(slots[at as usize]);
        let before = stack.len();
        for (_, kid) in kids(at as usize) {
            waits_for[*kid as usize] -= 1;
            if waits_for[*kid as usize] == 0 {
                stack.push(*kid);
            }
        }
        stack[before..].sort_by_key(|kid| std::cmp::Reverse(weight[*kid as usize]));
    }
    order
}
