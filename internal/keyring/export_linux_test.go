package keyring

// Direct reads items over one connection, as Get does before it asks the
// library.
func Direct() func(address, service, account string) (value string, ok bool) {
	return new(direct).get
}
