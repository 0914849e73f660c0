"""The checks that an exported file must pass, and the report of them."""
