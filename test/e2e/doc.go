// Package e2e tests the built binary as a person meets it: in a home of its
// own, against real components. The certified issuer, the browser, the keychain
// and the terminal come from test/peers and keyringtest; where one is missing
// its tests are left out and say so, or fail under APIAUTH_TEST_PEERS=required.
//
// APIAUTH_TEST_BINARY names a binary to test in place of a new build.
package e2e
