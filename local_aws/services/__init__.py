"""The AWS services that moto answers, with execution behind them and its faults mended."""
