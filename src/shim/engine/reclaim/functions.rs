//! A runtime's functions: their names and types in one list.

/// `field: type = c"name";` for each function, in a struct that is made from the addresses that were found. What a build of the
/// runtime lacks is None.
macro_rules! functions {
    ($($field:ident: $type:ty = $name:literal;)*) => {
        const NAMES: &[$crate::os::elf::Name] = &[$($crate::os::elf::Name::new($name)),*];
        const _: () = assert!(NAMES.len() <= $crate::engine::reclaim::loaded::FUNCTIONS);

        #[derive(Clone, Copy)]
        struct Functions { $($field: Option<$type>,)* }

        impl Functions {
            #[inline(always)]
            fn of(home: &$crate::engine::reclaim::loaded::Home) -> Functions {
                // SAFETY: addresses of the functions of these names, which have these types wherever the runtime has them; an
                // optional function is an address or zero.
                unsafe {
                    let mut functions = core::mem::MaybeUninit::<Functions>::uninit();
                    core::ptr::copy_nonoverlapping(home.functions.as_ptr(), functions.as_mut_ptr().cast(), NAMES.len());
                    functions.assume_init()
                }
            }
        }

        const _: () = assert!(size_of::<Functions>() == NAMES.len() * size_of::<usize>());
    };
}
pub(super) use functions;
