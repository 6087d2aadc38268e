//! Entries and keys of any table.

/// What is known of a table without its types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TableInfo {
    /// In the P4Info.
    pub id: u32,
    /// In the P4 source.
    pub name: &'static str,
    /// Entries that fit.
    pub size: u64,
    /// See [`crate::write_order`].
    pub stage: u8,
}

/// Defines [`crate::AnyEntry`], [`crate::AnyKey`] and [`crate::TABLES`] over a list of tables.
macro_rules! any_table {
    ($($variant:ident, $table:ident, $key:ident, $action:ident, $name:literal;)*) => {
        /// All tables of the program, in the order of the P4Info.
        pub const TABLES: &[TableInfo] = &[$(TableInfo {
            id: <$table as crate::Table>::TABLE_ID,
            name: <$table as crate::Table>::NAME,
            size: <$table as crate::Table>::SIZE,
            stage: <$table as crate::Table>::STAGE,
        },)*];

        /// An entry of any table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AnyEntry {
            $(
                #[doc = concat!("Of `", $name, "`.")]
                $variant($key, $action),
            )*
        }

        /// The key of an entry of any table: what a deletion names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AnyKey {
            $(
                #[doc = concat!("Of `", $name, "`.")]
                $variant($key),
            )*
        }

        impl AnyEntry {
            /// What identifies the entry.
            pub fn key(&self) -> AnyKey {
                match self {
                    $(Self::$variant(key, _) => AnyKey::$variant(*key),)*
                }
            }

            /// The id of its table.
            pub fn table_id(&self) -> u32 {
                self.key().table_id()
            }

            /// The stage of its table: insert and modify from low to high, delete from high to low.
            pub fn stage(&self) -> u8 {
                self.key().stage()
            }

            /// In canonical form, for an insertion or modification.
            pub fn encode(&self) -> crate::codec::TableEntry {
                match self {
                    $(Self::$variant(key, action) => <$table as crate::Table>::encode(key, action),)*
                }
            }

            /// Reads an entry of any table back.
            pub fn decode(entry: &crate::codec::TableEntry) -> Result<Self, crate::DecodeError> {
                match entry.table_id {
                    $(<$table as crate::Table>::TABLE_ID => {
                        <$table as crate::Table>::decode(entry).map(Self::from)
                    })*
                    table_id => Err(crate::DecodeError::UnknownTable { table_id }),
                }
            }
        }

        impl AnyKey {
            /// The id of its table.
            pub fn table_id(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => <$table as crate::Table>::TABLE_ID,)*
                }
            }

            /// The name of its table.
            pub fn table_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$table as crate::Table>::NAME,)*
                }
            }

            /// The stage of its table: insert and modify from low to high, delete from high to low.
            pub fn stage(&self) -> u8 {
                match self {
                    $(Self::$variant(_) => <$table as crate::Table>::STAGE,)*
                }
            }

            /// In canonical form, without action: for a deletion.
            pub fn encode(&self) -> crate::codec::TableEntry {
                match self {
                    $(Self::$variant(key) => <$table as crate::Table>::encode_key(key),)*
                }
            }
        }

        impl ::std::fmt::Display for AnyEntry {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match self {
                    $(Self::$variant(key, action) => write!(f, "{key} -> {action}"),)*
                }
            }
        }

        impl ::std::fmt::Display for AnyKey {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match self {
                    $(Self::$variant(key) => ::std::fmt::Display::fmt(key, f),)*
                }
            }
        }

        $(
            impl From<($key, $action)> for AnyEntry {
                fn from((key, action): ($key, $action)) -> Self {
                    Self::$variant(key, action)
                }
            }

            impl From<$key> for AnyKey {
                fn from(key: $key) -> Self {
                    Self::$variant(key)
                }
            }
        )*

        /// One entry of each table, made from a seed.
        #[cfg(test)]
        pub(crate) fn any_samples(seed: u64) -> Vec<AnyEntry> {
            let mut source = crate::sample::Source::new(seed);
            vec![$(<($key, $action) as crate::sample::Sample>::sample(&mut source).into(),)*]
        }
    };
}
pub(crate) use any_table;
