"""What was received, when it is complete, which pipeline it goes to; knows neither torch nor vertebrae."""
