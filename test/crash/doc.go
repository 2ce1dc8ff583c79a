// Package crash proves with real processes that a grant is not lost: not by a
// race, a kill, a signal, a full disk, a sleep, or an issuer that fails. The
// far side is the embedded issuer, strict about reuse or with a grace period;
// the processes are the built binary. A tracer of its own stops a process at
// any of its system calls, so that nothing here depends on time.
//
// The short form runs with all other tests. APIAUTH_TEST_LONG=1 runs all of it,
// docs/crash.md tells how and what came of it. APIAUTH_TEST_SEED repeats a storm.
package crash
