package keyringtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/secret"
)

// Conformance checks what every keychain must do, and leaves it as it was. It
// uses services that begin with "apiauth-test.". No value is printed.
func Conformance(t *testing.T, k *keyring.Keyring) {
	t.Helper()
	ctx := t.Context()
	const service, account = "apiauth-test.conformance", "p.n.key"
	absent := func(service, account string) {
		t.Helper()
		if _, err := k.Get(ctx, service, account); !errors.Is(err, keyring.ErrNotFound) {
			t.Fatalf("a missing item: got %v, want ErrNotFound", err)
		}
	}
	set := func(service, account, value string) {
		t.Helper()
		if err := k.Set(ctx, service, account, secret.New(value)); err != nil {
			t.Fatalf("set %d bytes: %v", len(value), err)
		}
	}
	holds := func(service, account, value string) {
		t.Helper()
		got, err := k.Get(ctx, service, account)
		if err != nil {
			t.Fatalf("get: %v", err)
		}
		if !got.Equal(secret.New(value)) {
			t.Fatalf("read %d bytes that are not the %d written", got.Len(), len(value))
		}
	}
	remove := func(service, account string) {
		t.Helper()
		if err := k.Delete(ctx, service, account); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	absent(service, account)
	remove(service, account) // a missing item is no error
	set(service, account, "first")
	holds(service, account, "first")
	set(service, account, "second") // replaces
	holds(service, account, "second")
	remove(service, account)
	absent(service, account)

	// Neighbours: neither a prefix nor a different case is the same item.
	neighbours := [][2]string{
		{service, account}, {service, account + "x"}, {service, "p.n.ke"}, {service + "x", account},
		{"apiauth-test", account}, {service, "p.n.grant"},
	}
	for i, n := range neighbours {
		set(n[0], n[1], fmt.Sprint("value ", i))
	}
	for i, n := range neighbours {
		holds(n[0], n[1], fmt.Sprint("value ", i))
	}
	remove(service, account)
	for i, n := range neighbours[1:] {
		holds(n[0], n[1], fmt.Sprint("value ", i+1))
		remove(n[0], n[1])
	}

	// Values: every byte comes back as it was.
	var every strings.Builder
	for b := range 256 {
		every.WriteByte(byte(b))
	}
	for _, value := range []string{
		" padded ", "line\n", "\n", "quotes ' \" \\ $HOME `x` %s", "\x00", "ünïcödé 😀", every.String(), "go-keyring-base64:eA==",
	} {
		set(service, account, value)
		holds(service, account, value)
	}
	for size := 1; ; size *= 4 {
		size = min(size, k.MaxValue(), 64<<10)
		value := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		set(service, account, value)
		holds(service, account, value)
		if size == min(k.MaxValue(), 64<<10) {
			break
		}
	}
	remove(service, account)
	absent(service, account)
}
