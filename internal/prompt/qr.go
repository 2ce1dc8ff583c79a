package prompt

import (
	"strings"

	"rsc.io/qr/coding"
)

// quiet is the light border of a QR code, in modules. The standard asks for four;
// readers take two, and terminals are small.
const quiet = 2

// QR draws text as a QR code with half-block characters, light on dark: a line
// for two rows of modules. It returns nil where it does not fit the terminal.
func (t Terminal) QR(text string) []string {
	width, height := t.size()
	code := encodeQR(text)
	if code == nil || code.Size+2*quiet > width || (code.Size+2*quiet+1)/2+6 > height {
		return nil
	}
	return drawQR(code)
}

// encodeQR makes the smallest code of the lowest redundancy: a screen is not
// scratched. It returns nil for a text that is too long.
func encodeQR(text string) *coding.Code {
	content := coding.String(text)
	for v := coding.Version(coding.MinVersion); v <= 15; v++ {
		if content.Bits(v) > v.DataBytes(coding.L)*8 {
			continue
		}
		plan, err := coding.NewPlan(v, coding.L, 0)
		if err != nil {
			return nil
		}
		code, err := plan.Encode(content)
		if err != nil {
			return nil
		}
		return code
	}
	return nil
}

func drawQR(code *coding.Code) []string {
	light := func(x, y int) bool {
		x, y = x-quiet, y-quiet
		return x < 0 || y < 0 || x >= code.Size || y >= code.Size || !code.Black(x, y)
	}
	side := code.Size + 2*quiet
	var lines []string
	for y := 0; y < side; y += 2 {
		var b strings.Builder
		for x := range side {
			switch above, below := light(x, y), y+1 < side && light(x, y+1); {
			case above && below:
				b.WriteRune('█')
			case above:
				b.WriteRune('▀')
			case below:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		lines = append(lines, b.String())
	}
	return lines
}
