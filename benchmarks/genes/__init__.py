"""What a large panel of genes costs."""
