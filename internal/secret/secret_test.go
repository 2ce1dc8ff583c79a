package secret_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/secret"
)

const canary = "canary-3f9a"

type holder struct {
	Public  secret.Text
	private secret.Text
	pointer *secret.Text
}

func TestTextNeverPrints(t *testing.T) {
	s := secret.New(canary)
	h := holder{Public: s, private: s, pointer: &s}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, &s)
		fmt.Fprintf(&out, verb, h)
		fmt.Fprintf(&out, verb, &h)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "secret", s, "holder", h)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "secret", s, "holder", h)
	if err := json.NewEncoder(&out).Encode(h); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{canary, fmt.Sprintf("%x", canary)} {
		if strings.Contains(out.String(), form) {
			t.Fatalf("a printed form holds the credential as %q", form)
		}
	}
}

func TestTextIsNotDecoded(t *testing.T) {
	var h holder
	if err := json.Unmarshal([]byte(`{"Public":"[redacted]"}`), &h); err == nil {
		t.Fatal("decoding into a Text succeeded; it must fail")
	}
}

func TestTextEqualAndZero(t *testing.T) {
	var zero secret.Text
	if !zero.IsZero() || zero.Reveal() != "" || !zero.Equal(secret.New("")) {
		t.Error("the zero Text is not the empty credential")
	}
	if !secret.New("a").Equal(secret.New("a")) || secret.New("a").Equal(secret.New("b")) || secret.New("a").Equal(zero) {
		t.Error("Equal does not compare the values")
	}
}
