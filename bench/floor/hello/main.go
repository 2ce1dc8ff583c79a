// Command hello is the floor of every start: what a Go process costs that does
// nothing.
package main

import "os"

func main() { _, _ = os.Stdout.WriteString("hello\n") }
