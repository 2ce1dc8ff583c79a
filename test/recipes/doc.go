// Package recipes runs what docs/ci.md tells people to write, with the built
// program: every file of a CI system is read, its commands run, and what they
// leave is parsed as that system parses it.
package recipes
