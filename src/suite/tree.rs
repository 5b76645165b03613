//! Merkle trees of SHA-256, by which one signature holds for many leaves (PROTOCOL section 5).

use super::hash::sha256;

/// The most siblings between a leaf and its root.
pub(crate) const MOST_SIBLINGS: usize = 16;

/// The tree above some leaves, padded to a power of two by repeating the last one.
///
/// Of the padding nothing is kept but one node a level, since all are the same:
///
/// ```text
///              root                 levels[2] = [root]
///            /      \
///        ab            cc           levels[1] = [ab, cc]      padding[1] = H(c, c)
///       /  \          /  \
///      a    b        c    (c)       levels[0] = [a, b, c]     padding[0] = c
/// ```
pub(crate) struct Tree {
    levels: Vec<Vec<[u8; 32]>>,
    padding: Vec<[u8; 32]>,
}

impl Tree {
    /// `None` for no leaf at all, and above 2^16 of them.
    pub(crate) fn new(leaves: Vec<[u8; 32]>) -> Option<Self> {
        let mut pad = *leaves.last()?;
        if leaves.len() > 1 << MOST_SIBLINGS {
            return None;
        }
        let (mut levels, mut padding) = (vec![leaves], Vec::new());
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below.chunks(2).map(|pair| match pair {
                [left, right] => node(left, right),
                _ => node(&pair[0], &pad),
            });
            let above = above.collect();
            padding.push(pad);
            pad = node(&pad, &pad);
            levels.push(above);
        }
        Some(Tree { levels, padding })
    }

    pub(crate) fn root(&self) -> [u8; 32] {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or_default()
    }

    /// How many leaves it was made of.
    pub(crate) fn len(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// How many siblings a leaf has on its way to the root.
    pub(crate) fn depth(&self) -> usize {
        self.padding.len()
    }

    /// The siblings that the leaf with this index meets, from the leaf up.
    pub(crate) fn siblings(&self, index: u32) -> impl Iterator<Item = &[u8; 32]> {
        self.levels
            .iter()
            .zip(&self.padding)
            .enumerate()
            .map(move |(height, (level, pad))| level.get((index as usize >> height) ^ 1).unwrap_or(pad))
    }
}

/// The root above `leaf`. `siblings` are whole, 32 bytes each, from the leaf up; bit i of `index` says whether
/// the i-th is on the left.
pub(crate) fn root(leaf: [u8; 32], index: u32, siblings: &[u8]) -> [u8; 32] {
    let (siblings, _) = siblings.as_chunks();
    siblings.iter().enumerate().fold(leaf, |below, (level, sibling)| {
        if index >> level & 1 == 1 { node(sibling, &below) } else { node(&below, sibling) }
    })
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[0x01], left, right])
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    fn leaf(number: u32) -> [u8; 32] {
        sha256(&[&number.to_be_bytes()])
    }

    fn leaves(count: u32) -> Vec<[u8; 32]> {
        (0..count).map(leaf).collect()
    }

    fn path(tree: &Tree, index: u32) -> Vec<u8> {
        tree.siblings(index).flatten().copied().collect()
    }

    /// As section 5 says it, without shortcuts.
    fn padded(mut level: Vec<[u8; 32]>) -> [u8; 32] {
        let last = *level.last().unwrap();
        level.resize(level.len().next_power_of_two(), last);
        while level.len() > 1 {
            level = level.chunks(2).map(|pair| node(&pair[0], &pair[1])).collect();
        }
        level[0]
    }

    #[test]
    fn every_size_has_the_root_of_its_padded_tree() {
        for count in (1..=70).chain([127, 128, 129, 255, 1000, 65_535, 65_536]) {
            let tree = Tree::new(leaves(count)).unwrap();
            assert_eq!(tree.root(), padded(leaves(count)), "{count} leaves");
            assert_eq!(tree.depth(), count.next_power_of_two().trailing_zeros() as usize);
            let some = [0, 1, count / 3, count / 2, count.saturating_sub(2), count - 1];
            for index in some.into_iter().filter(|index| *index < count) {
                assert_eq!(root(leaf(index), index, &path(&tree, index)), tree.root(), "{index} of {count}");
            }
        }
    }

    #[test]
    fn none_and_too_many_make_no_tree() {
        assert!(Tree::new(Vec::new()).is_none());
        assert!(Tree::new(leaves(65_537)).is_none());
    }

    #[test]
    fn a_path_proves_one_leaf_in_one_place() {
        let tree = Tree::new(leaves(13)).unwrap();
        let other = Tree::new((100..113).map(leaf).collect()).unwrap();
        for index in 0..13 {
            let siblings = path(&tree, index);
            for wrong in (0..16).filter(|wrong| *wrong != index) {
                // The last leaf is its own sibling, and so stands in more than one place.
                let same = root(leaf(index), wrong, &siblings) == tree.root();
                assert_eq!(same, index == 12 && wrong >= 12, "{index} in the place of {wrong}");
            }
            for at in 0..siblings.len() {
                let mut bent = siblings.clone();
                bent[at] ^= 1;
                assert_ne!(root(leaf(index), index, &bent), tree.root());
            }
            for level in 0..siblings.len() / 32 {
                assert_ne!(
                    root(leaf(index), index, &siblings[..level * 32]),
                    tree.root(),
                    "a path cut short"
                );
            }
            assert_ne!(root(leaf(index + 1), index, &siblings), tree.root());
            assert_ne!(root(leaf(index), index, &path(&other, index)), tree.root());
        }
    }

    #[test]
    fn the_same_leaf_may_stand_there_twice() {
        let mut all = leaves(6);
        all[4] = all[1];
        let tree = Tree::new(all).unwrap();
        for index in [1, 4] {
            assert_eq!(root(leaf(1), index, &path(&tree, index)), tree.root());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..Default::default() })]

        /// Leaves out of so many kinds, so that some stand there more than once, and a path changed in every way.
        #[test]
        fn a_path_leads_to_its_root_alone(
            (count, kinds) in prop_oneof![
                8 => (1_u32..300, 1_u32..300),
                1 => (1_u32..=1 << MOST_SIBLINGS, 1_u32..=1 << MOST_SIBLINGS),
            ],
            (place, wrong, level) in (any::<Index>(), any::<Index>(), any::<Index>()),
            bit in 0_usize..256,
        ) {
            let all: Vec<_> = (0..count).map(|number| leaf(number % kinds)).collect();
            let tree = Tree::new(all.clone()).unwrap();
            prop_assert_eq!(tree.root(), padded(all.clone()));
            let (index, padded_count) = (place.index(count as usize), count.next_power_of_two() as usize);
            let siblings = path(&tree, index as u32);
            prop_assert_eq!(siblings.len(), 32 * tree.depth());
            prop_assert_eq!(root(all[index], index as u32, &siblings), tree.root());

            // In another place it is the same root only where the two trees on the way are the same.
            let wrong = wrong.index(padded_count);
            let last = all.last().unwrap();
            let at = |at: usize| all.get(at).unwrap_or(last);
            let same = (0..tree.depth()).filter(|level| (wrong ^ index) >> level & 1 == 1).all(|level| {
                let (from, beside) = (index >> level << level, (index >> level ^ 1) << level);
                (0..1 << level).all(|i| at(from + i) == at(beside + i))
            });
            prop_assert_eq!(root(all[index], wrong as u32, &siblings) == tree.root(), same);

            let other = Tree::new((0..count).map(|number| leaf(number + 1 + (1 << 17))).collect()).unwrap();
            let swapped = root(all[index], index as u32, &path(&other, index as u32)) == tree.root();
            prop_assert_eq!(swapped, count == 1);
            prop_assert_ne!(root(leaf(1 << 18), index as u32, &siblings), tree.root());
            let longer = [&siblings[..], &[0; 32]].concat();
            prop_assert_ne!(root(all[index], index as u32, &longer), tree.root());
            if tree.depth() > 0 {
                let level = level.index(tree.depth());
                let mut bent = siblings.clone();
                bent[level * 32 + bit / 8] ^= 1 << (bit % 8);
                prop_assert_ne!(root(all[index], index as u32, &bent), tree.root());
                prop_assert_ne!(root(all[index], index as u32, &siblings[..level * 32]), tree.root());
            }
        }
    }
}
