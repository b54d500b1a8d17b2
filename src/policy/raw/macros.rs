//! Two macros that define tables and choices once, for reading and for the schema.

/// Defines tables: the struct, how it is read, and how one lies over another.
macro_rules! tables {
    ($($(#[$meta:meta])* struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        #[cfg_attr(test, derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
        pub(crate) struct $name {
            $($(#[$field_meta])* pub(crate) $field: $type,)*
            /// Where it stands.
            #[cfg_attr(test, schemars(skip))]
            pub(crate) at: $crate::policy::raw::Place,
        }

        impl $crate::policy::raw::Read for $name {
            fn read(
                node: $crate::policy::raw::node::Node<'_>,
                ctx: &mut $crate::policy::raw::Ctx<'_>,
            ) -> Option<Self> {
                let mut table = $crate::policy::raw::node::TableReader::open(node, ctx)?;
                $(let $field = $crate::policy::raw::node::Field::take(
                    &mut table,
                    $crate::policy::raw::macros::key(stringify!($field)),
                    ctx,
                );)*
                Some(Self { $($field,)* at: table.finish(ctx) })
            }
        }

        impl $crate::policy::raw::node::Over for $name {
            fn over(self, below: Self) -> Self {
                Self {
                    $($field: $crate::policy::raw::node::Over::over(self.$field, below.$field),)*
                    at: self.at,
                }
            }
        }
    )*};
}

/// Defines words to choose from, and the code for a word that is none of them.
macro_rules! choices {
    ($($(#[$meta:meta])* enum $name:ident or $code:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $text:tt,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub(crate) enum $name {
            $($(#[$variant_meta])* #[cfg_attr(test, schemars(rename = $text))] $variant,)*
        }

        impl $name {
            /// The words, in the order of declaration.
            pub(crate) const WORDS: &'static [&'static str] = &[$($text),*];

            /// The choice that a word stands for.
            pub(crate) fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl $crate::policy::raw::Read for $crate::policy::raw::At<$name> {
            fn read(
                node: $crate::policy::raw::node::Node<'_>,
                ctx: &mut $crate::policy::raw::Ctx<'_>,
            ) -> Option<Self> {
                let word = $crate::policy::raw::macros::word(node, ctx)?;
                let choice = $name::from_word(word);
                if choice.is_none() {
                    let help = $crate::policy::raw::nearest(word, $name::WORDS, "known");
                    let code = $crate::policy::code::Code::$code;
                    ctx.error(code, node.span, code.explained().title, help);
                }
                choice.map(|value| Self { value, span: node.span })
            }
        }
    )*};
}

pub(super) use {choices, tables};

use crate::policy::raw::Ctx;
use crate::policy::raw::node::Node;

/// A field's key: its name without the mark of a raw identifier.
pub(super) fn key(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// The text of a word, or a report that the value is none.
pub(super) fn word<'n>(node: Node<'n>, ctx: &mut Ctx<'_>) -> Option<&'n str> {
    let word = node.value.as_str();
    if word.is_none() {
        ctx.wrong_type(node, "text");
    }
    word
}
