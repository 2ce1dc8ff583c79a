//go:build unix

// Command fakesecretservice is a scripted Secret Service for tests that are
// not written in Go. It serves on the bus in DBUS_SESSION_BUS_ADDRESS, prints
// "ready", and ends with the bus or a signal.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
)

func main() {
	behaviour := flag.String("behaviour", string(keyringtest.OK), fmt.Sprintf("one of %v", keyringtest.Behaviours()))
	delay := flag.Duration("delay", 100*time.Millisecond, "before each answer when slow")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f, err := keyringtest.ServeFake(os.Getenv("DBUS_SESSION_BUS_ADDRESS"), keyringtest.Behaviour(*behaviour), *delay)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakesecretservice:", err)
		os.Exit(1)
	}
	defer f.Close()
	fmt.Println("ready")
	f.Wait(ctx)
}
