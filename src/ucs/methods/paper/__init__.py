"""The networks of the UCS paper: the Foreground Predict Net and the Cell Predict Net."""
