package inject

import (
	"bytes"
	"crypto/rand"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/secret"
)

// A placeholder looks like the provider's tokens, and nobody guesses it.
func TestPlaceholder(t *testing.T) {
	for _, c := range []struct{ shape, want string }{
		{"", `^apiauth_placeholder_[A-Za-z0-9]{32}$`},
		{"gho_{36}", `^gho_[A-Za-z0-9]{36}$`},
		{"BQ{120}", `^BQ[A-Za-z0-9]{120}$`},
		{"00D{12}!{96}", `^00D[A-Za-z0-9]{12}![A-Za-z0-9]{96}$`},
		{"eyJ{40}.{600}.{342}", `^eyJ[A-Za-z0-9]{40}\.[A-Za-z0-9]{600}\.[A-Za-z0-9]{342}$`},
		{"{64}", `^[A-Za-z0-9]{64}$`},
		{"key-{16}", `^key-[A-Za-z0-9]{22}$`},
		{"a{8}-{8}", `^a[A-Za-z0-9]{8}-[A-Za-z0-9]{14}$`},
	} {
		seen := map[string]bool{}
		for range 50 {
			p, err := Placeholder(c.shape, secret.New("the-token"), rand.Reader)
			if err != nil {
				t.Fatalf("%s: %v", c.shape, err)
			}
			if !regexp.MustCompile(c.want).MatchString(p.Reveal()) {
				t.Errorf("%s gives %s", c.shape, p.Reveal())
			}
			if seen[p.Reveal()] {
				t.Errorf("%s gave the same placeholder twice", c.shape)
			}
			seen[p.Reveal()] = true
		}
	}
}

func TestPlaceholderIsNeverTheToken(t *testing.T) {
	same := strings.Repeat("\x00", 1<<10) // only As
	if _, err := Placeholder("{32}", secret.New(strings.Repeat("A", 32)), strings.NewReader(same)); err == nil {
		t.Error("a placeholder that is the token was made")
	}
	p, err := Placeholder("{32}", secret.New(strings.Repeat("A", 32)), io.MultiReader(strings.NewReader(same[:64]), rand.Reader))
	if err != nil || p.Reveal() == strings.Repeat("A", 32) {
		t.Errorf("no second try: %v", err)
	}
}

func TestPlaceholderFaults(t *testing.T) {
	if _, err := Placeholder("{32}", secret.Text{}, bytes.NewReader(nil)); err == nil {
		t.Error("no random numbers, and no error")
	}
	for _, shape := range []string{"{", "{x}", "{0}", "{-1}", "{9999999}", "a{"} {
		if _, err := Placeholder(shape, secret.Text{}, rand.Reader); err == nil {
			t.Errorf("the shape %q was taken", shape)
		}
	}
}

// Every letter comes about as often as another: a bias would cost bits.
func TestPlaceholderIsFair(t *testing.T) {
	p, err := Placeholder(strings.Repeat("{4000}", 16), secret.Text{}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	count := map[rune]int{}
	for _, c := range p.Reveal() {
		count[c]++
	}
	if len(count) != 62 {
		t.Fatalf("%d kinds of characters, not 62", len(count))
	}
	for c, n := range count { // 1032 each, with a deviation of 32
		if n < 820 || n > 1250 {
			t.Errorf("%c came %d times of 64000", c, n)
		}
	}
}
