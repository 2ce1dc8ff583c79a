package inject

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

const (
	// minRandom is how many random characters a placeholder has at least: 22 of
	// 62 kinds are 130 bits, so that nobody guesses one.
	minRandom = 22
	// plainShape is for providers whose definition has no shape. It tells whoever
	// meets it in a log what it is.
	plainShape = "apiauth_placeholder_{32}"
)

// Placeholder makes a value that stands in for token in a child's environment:
// random from r, in the form that shape gives (gho_{36}: the text, and {N} for N
// random letters and digits), never the token itself. An empty shape gives
// apiauth_placeholder_{32}. A shape with fewer than 22 random characters gets the
// missing ones at its end.
func Placeholder(shape string, token secret.Text, r io.Reader) (secret.Text, error) {
	if shape == "" {
		shape = plainShape
	}
	for range 8 {
		text, err := fill(shape, r)
		if err != nil {
			return secret.Text{}, fmt.Errorf("make a placeholder: %w", err)
		}
		if p := secret.New(text); !p.Equal(token) {
			return p, nil
		}
	}
	return secret.Text{}, errors.New("make a placeholder: the system's random numbers repeat")
}

// fill writes a shape with random characters.
func fill(shape string, r io.Reader) (string, error) {
	var b strings.Builder
	random := 0
	add := func(n int) error {
		random += n
		return randomText(&b, n, r)
	}
	for rest := shape; rest != ""; {
		if rest[0] != '{' {
			b.WriteByte(rest[0])
			rest = rest[1:]
			continue
		}
		number, after, ok := strings.Cut(rest[1:], "}")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 1 || n > 4096 {
			return "", fmt.Errorf("%q is not the shape of a token", shape)
		}
		if err := add(n); err != nil {
			return "", err
		}
		rest = after
	}
	if random < minRandom {
		if err := add(minRandom - random); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// randomText writes n letters and digits, each of the 62 as likely as another.
func randomText(b *strings.Builder, n int, r io.Reader) error {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	const fair = 256 - 256%len(letters) // bytes from here on would favour the first letters
	buf := make([]byte, 64)
	for n > 0 {
		if _, err := io.ReadFull(r, buf); err != nil {
			return err
		}
		for _, c := range buf {
			if n > 0 && int(c) < fair {
				b.WriteByte(letters[int(c)%len(letters)])
				n--
			}
		}
	}
	return nil
}
