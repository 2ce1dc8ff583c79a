package keyring_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/secret"
)

// TestKeePassXC shows that we tell rightly what the other Secret Service does.
// KeePassXC 2.7.4 was seen to keep all of our calls, to crash in the middle of one,
// and not to answer one that writes over another process's item: each call ends in
// time, what was answered with success can be read back as long as the service is
// there, and all else is an error that says which. Long form only: KeePassXC is no
// peer of the short one.
func TestKeePassXC(t *testing.T) {
	if os.Getenv("APIAUTH_TEST_LONG") == "" { //nolint:forbidigo // which form was asked for
		t.Log("KeePassXC runs in the long form")
		return
	}
	b := keyringtest.StartKeePassXC(t)
	k := open(t, b, keyring.Options{Budget: -1})
	if _, err := k.Get(t.Context(), service, "none"); !errors.Is(err, keyring.ErrNotFound) {
		t.Fatalf("a missing item: %v", err)
	}
	kept, outcomes := map[string]string{}, map[string]int{}
	told := func(err error) string {
		t.Helper()
		for name, class := range map[string]error{"timeout": keyring.ErrTimeout, "absent": keyring.ErrAbsent, "failed": keyring.ErrFailed} {
			if errors.Is(err, class) {
				return name
			}
		}
		t.Errorf("an error without a class: %v", err)
		return "other"
	}
	for i := range 25 {
		name := fmt.Sprintf("a%d", i%20) // the last five are written over
		value := strings.Repeat(fmt.Sprint(i, " "), 1<<10)
		started := time.Now()
		err := k.Set(t.Context(), service, name, secret.New(value))
		if took := time.Since(started); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		if err != nil {
			delete(kept, name) // old, new or none
			outcomes["set: "+told(err)]++
			continue
		}
		kept[name] = value
		outcomes["set: kept"]++
	}
	for name, value := range kept {
		switch got, err := k.Get(t.Context(), service, name); {
		case err != nil && !errors.Is(err, keyring.ErrNotFound):
			outcomes["get: "+told(err)]++
		case err != nil || !got.Equal(secret.New(value)):
			t.Errorf("%s: success was answered, and the item is not there: %v", name, err)
		default:
			outcomes["get: the value"]++
		}
	}
	t.Logf("%v", outcomes)
}
