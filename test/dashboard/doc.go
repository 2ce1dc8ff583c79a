// Package dashboard tests the built program's dashboard in a real browser,
// against a certified OpenID provider.
package dashboard
