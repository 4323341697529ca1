//! Structs whose fields are a block's operands, all of one type: views going in, tensors coming out.

/// A struct of operands with its field names, in order, and the way from and to an array.
macro_rules! operands {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name<X> {
            $($(#[$field_doc])* pub $field: X,)+
        }

        impl<X> $name<X> {
            const NAMES: [&'static str; [$(stringify!($field)),+].len()] = [$(stringify!($field)),+];

            /// The fields from a list in their order: what an optimizer goes through.
            pub fn from_array(fields: [X; [$(stringify!($field)),+].len()]) -> Self {
                let [$($field),+] = fields;
                Self { $($field),+ }
            }

            /// The fields as a list in their order.
            pub fn into_array(self) -> [X; [$(stringify!($field)),+].len()] {
                let Self { $($field),+ } = self;
                [$($field),+]
            }
        }

        impl<'a, T: $crate::Element> $name<$crate::View<'a, T>> {
            /// Each field with its name and the shape it has to have; the first `images` are one for each image.
            fn named(
                &self,
                images: usize,
                shapes: [[usize; 4]; [$(stringify!($field)),+].len()],
            ) -> [$crate::vision::Operand<'a, T>; [$(stringify!($field)),+].len()] {
                let views = self.into_array();
                core::array::from_fn(|i| $crate::vision::Operand {
                    what: Self::NAMES[i],
                    view: views[i],
                    expected: shapes[i],
                    each: i < images,
                })
            }
        }
    };
}
pub(super) use operands;
