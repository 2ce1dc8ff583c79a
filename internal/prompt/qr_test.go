package prompt

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// readQR reads a drawn code as a camera does: modules, mask, bits. It knows codes
// of one block (versions 2 to 5 at the lowest redundancy, ISO/IEC 18004).
func readQR(t *testing.T, lines []string) string {
	t.Helper()
	side := utf8.RuneCountInString(lines[0])
	dark := make([][]bool, 2*len(lines))
	for i, line := range lines {
		if utf8.RuneCountInString(line) != side {
			t.Fatal("the lines differ in width")
		}
		for _, r := range line {
			dark[2*i] = append(dark[2*i], r == ' ' || r == '▄')
			dark[2*i+1] = append(dark[2*i+1], r == ' ' || r == '▀')
		}
	}
	size := side - 2*quiet
	at := func(x, y int) bool { return dark[y+quiet][x+quiet] }
	for i := range side {
		if dark[0][i] || dark[1][i] || dark[i][0] || dark[i][1] || dark[i][side-1] {
			t.Fatal("the border is not light")
		}
	}
	version := (size - 17) / 4
	if version < 2 || version > 5 || size != 17+4*version {
		t.Fatalf("the code has %d modules on a side", size)
	}
	// The finder patterns in three corners, and the timing between them.
	for _, corner := range [][2]int{{0, 0}, {size - 7, 0}, {0, size - 7}} {
		for i := range 7 {
			for j := range 7 {
				ring := max(abs(i-3), abs(j-3))
				if at(corner[0]+i, corner[1]+j) != (ring != 2) {
					t.Fatal("a finder pattern is broken")
				}
			}
		}
	}
	function := func(x, y int) bool {
		a := size - 7 // centre of the alignment pattern
		return x < 9 && y < 9 || x >= size-8 && y < 9 || x < 9 && y >= size-8 || x == 6 || y == 6 || abs(x-a) <= 2 && abs(y-a) <= 2
	}
	var bits []bool
	up := true
	for right := size - 1; right > 0; right -= 2 {
		if right == 6 {
			right--
		}
		for i := range size {
			y := i
			if up {
				y = size - 1 - i
			}
			for _, x := range []int{right, right - 1} {
				if !function(x, y) {
					bits = append(bits, at(x, y) != ((x+y)%2 == 0)) // mask 0
				}
			}
		}
		up = !up
	}
	number := func(n int) (v int) {
		for _, b := range bits[:n] {
			v *= 2
			if b {
				v++
			}
		}
		bits = bits[n:]
		return v
	}
	if mode := number(4); mode != 4 {
		t.Fatalf("the mode is %d, not bytes", mode)
	}
	var text strings.Builder
	for range number(8) {
		text.WriteByte(byte(number(8)))
	}
	return text.String()
}

func abs(n int) int { return max(n, -n) }

func TestQR(t *testing.T) {
	term := Terminal{Size: func() (int, int) { return 80, 40 }}
	for _, text := range []string{"https://example.com/device", "https://login.example.com/activate?user_code=WDJB-MJHT", strings.Repeat("x", 100)} {
		lines := term.QR(text)
		if lines == nil {
			t.Fatalf("%d bytes are not drawn", len(text))
		}
		if got := readQR(t, lines); got != text {
			t.Errorf("it reads %q, want %q", got, text)
		}
	}
}

func TestQRFitsOrIsNotDrawn(t *testing.T) {
	const text = "https://example.com/device?user_code=WDJB-MJHT"
	for _, size := range [][2]int{{30, 40}, {80, 12}, {10, 10}} {
		if lines := (Terminal{Size: func() (int, int) { return size[0], size[1] }}).QR(text); lines != nil {
			t.Errorf("a terminal of %d×%d gets %d lines", size[0], size[1], len(lines))
		}
	}
	if lines := (Terminal{Size: func() (int, int) { return 500, 500 }}).QR(strings.Repeat("x", 3000)); lines != nil {
		t.Error("a text that is too long is drawn")
	}
	if lines := (Terminal{Size: func() (int, int) { return 60, 24 }}).QR(text); len(lines) == 0 || len(lines) > 18 {
		t.Errorf("a usual terminal gets %d lines", len(lines))
	}
}
