"""Photos and their labels: dataset formats, decoding, views as plain numbers, and the pixels drawn from them."""
