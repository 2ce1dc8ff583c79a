package strictyaml

import "strings"

// Suggest returns the member of among that word was probably meant to be: the
// closest by edit distance (a swap of neighbours counts one), or one that begins
// with word. It returns "" when none is near. Ties go to the earlier member.
func Suggest(word string, among []string) string {
	const longest = 64 // a longer word is no slip of the finger
	if word == "" || len(word) > longest {
		return ""
	}
	lower := strings.ToLower(word)
	best, bestDistance := "", 1+max(1, len(word)/3)
	for _, candidate := range among {
		if candidate == word || candidate == "" || len(candidate) > longest {
			continue
		}
		if d := distance(lower, strings.ToLower(candidate)); d < bestDistance && d < len(candidate) {
			best, bestDistance = candidate, d
		}
	}
	if best == "" && len(lower) >= 3 {
		for _, candidate := range among {
			if candidate != word && strings.HasPrefix(strings.ToLower(candidate), lower) {
				return candidate
			}
		}
	}
	return best
}

// distance is the optimal string alignment distance in bytes.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
