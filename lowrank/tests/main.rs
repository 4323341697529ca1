//! Tests of the split: recipes and their theorems, products, the file form.
