//! The functions of a language runtime that its collector calls: their names and types in one list.

/// Lines of `field: type = c"name";`, one for each function (or variable), whose type is a function pointer (or reference). They become
/// `NAMES`, for the search, and a struct `Functions`, which is made from the addresses that were found; a function that this build of
/// the runtime lacks is None.
macro_rules! functions {
    ($($field:ident: $type:ty = $name:literal;)*) => {
        const NAMES: &[$crate::os::elf::Name] = &[$($crate::os::elf::Name::new($name)),*];
        const _: () = assert!(NAMES.len() <= $crate::engine::reclaim::loaded::FUNCTIONS);

        #[derive(Clone, Copy)]
        struct Functions { $($field: Option<$type>,)* }

        impl Functions {
            #[inline(always)]
            fn of(loaded: &$crate::engine::reclaim::loaded::LoadedRuntime) -> Functions {
                // SAFETY: both sides have NAMES.len() words (asserted below). `loaded.functions` was filled by `loaded::search` with
                // the addresses of these names in the runtime that COLLECTORS has these NAMES for, or zero. The runtime's headers
                // declare them with the types of the list, and an Option of a function pointer or reference is an address or zero.
                unsafe {
                    let mut functions = core::mem::MaybeUninit::<Functions>::uninit();
                    core::ptr::copy_nonoverlapping(loaded.functions.as_ptr(), functions.as_mut_ptr().cast(), NAMES.len());
                    functions.assume_init()
                }
            }
        }

        const _: () = assert!(size_of::<Functions>() == NAMES.len() * size_of::<usize>());
    };
}
pub(super) use functions;
