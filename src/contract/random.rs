//! Numbers that look random and are the same for the same seed on every machine: for tests, whose failures can then be repeated.

/// Marsaglia's xorshift of 64 bits.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins at a seed. 0, from which only 0 would follow, counts as 1.
    pub const fn new(seed: u64) -> Random {
        Random(if seed == 0 { 1 } else { seed })
    }

    /// The next number, never 0.
    pub const fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 up to `end`, which is not 0, and without it. Its lowest bits are not used: they are the least random.
    pub const fn below(&mut self, end: u64) -> u64 {
        (self.number() >> 11) % end
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_all_of_a_range_come() {
        let of = |seed| {
            core::array::from_fn::<u64, 8, _>({
                let mut random = Random::new(seed);
                move |_| random.number()
            })
        };
        assert_eq!(of(1)[..2], [1_082_269_761, 1_152_992_998_833_853_505], "as published");
        assert_eq!(of(0), of(1));
        assert_ne!(of(1), of(2));
        let mut seen = [0; 10];
        let mut random = Random::new(7);
        (0..1000).for_each(|_| seen[random.below(10) as usize] += 1);
        assert!(seen.iter().all(|&count| (60..140).contains(&count)), "{seen:?}");
    }
}
