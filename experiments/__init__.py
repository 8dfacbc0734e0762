"""One file for each published table or figure; launch.list shows them."""
