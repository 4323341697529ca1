//! A bare program's view of rankbit: no std, an own panic handler, an own allocator, and real work.
//!
//! If any crate below brought std in, this would not build: the two panic handlers collide (E0152).

#![no_std]

extern crate alloc;

mod bare;
mod products;
#[cfg(feature = "all")]
mod work;

/// Does one piece of work with each crate.
///
/// Returns 0, or the number of the first piece that failed: 1 linalg, 2 quant, 3 lowrank, 4 its file form,
/// 5 the facade, 6 quant's products alone, 7 sparse, 8 attention, 9 linalg's other rooms.
#[unsafe(no_mangle)]
pub extern "C" fn rankbit_no_std() -> i32 {
    if products::run().is_none() {
        return 6;
    }
    #[cfg(feature = "all")]
    {
        let pieces: [(i32, fn() -> Option<()>); 8] = [
            (1, work::linalg),
            (2, work::quant),
            (3, work::lowrank),
            (4, work::file),
            (5, work::facade),
            (7, work::sparse),
            (8, work::attention),
            (9, work::linalg_rooms),
        ];
        for (number, piece) in pieces {
            if piece().is_none() {
                return number;
            }
        }
    }
    0
}
