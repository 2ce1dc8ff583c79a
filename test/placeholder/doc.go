// Package placeholder runs untrusted commands under exec --placeholder and
// --isolate of the built program: malicious packages, and the clients that
// people use, unmodified, toward an API on this machine.
package placeholder
