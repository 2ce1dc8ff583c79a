package oauth

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"time"
)

// standard returns the fields of a token response under their standard names: of
// the object that holds them, with the provider's own names translated. A
// standard name that the provider uses as well counts when its own is absent. An
// error code that says that there is none is left out.
func (o object) standard(r Rules) object {
	if r.Inside == "" && len(r.Fields) == 0 {
		return o
	}
	in := o
	if raw, twice := o.find(r.Inside); r.Inside != "" && twice {
		in = object{members: map[string]json.RawMessage{}, repeated: map[string]bool{"access_token": true}} // it cannot be told which counts
	} else if inner, err := parseObject(raw); err == nil {
		in = inner
	}
	out := object{members: maps.Clone(in.members), repeated: maps.Clone(in.repeated)}
	for name, paths := range r.Fields {
		var path string
		var raw json.RawMessage
		var twice bool
		for path = range strings.SplitSeq(paths, ",") { // the first that is there counts
			raw, twice = in.find(path)
			if len(raw) == 0 && !twice && strings.HasPrefix(name, "error") {
				raw, twice = o.find(path) // errors may stand beside the object
			}
			if len(raw) > 0 || twice {
				break
			}
		}
		value, ok := scalar(raw)
		switch {
		case twice:
			out.repeated[name] = true
		case len(raw) == 0 || string(raw) == "null":
		case strings.HasPrefix(name, "error") && ok && noError(value):
			if path == name {
				delete(out.members, name)
			}
		case strings.HasPrefix(name, "error") && ok:
			text, err := json.Marshal(value) // codes may be numbers
			if err == nil {
				out.members[name] = text
				delete(out.repeated, name)
			}
		default:
			out.members[name] = raw
			delete(out.repeated, name)
		}
	}
	return out
}

// noError reports whether a code in a place of the provider's own says that all
// is well.
func noError(code string) bool {
	switch strings.ToLower(code) {
	case "", "0", "200", "false", "ok", "success":
		return true
	}
	return false
}

// at returns an object whose only member, of the given name, is what stands at a
// path.
func (o object) at(path, name string) object {
	raw, twice := o.find(path)
	out := object{members: map[string]json.RawMessage{}, repeated: map[string]bool{name: twice}}
	if len(raw) > 0 {
		out.members[name] = raw
	}
	return out
}

// until reads a point in time, in seconds or milliseconds since 1970 or in RFC
// 3339, as a duration from now, clamped to [0, limit].
func (o object) until(name string, now time.Time, limit time.Duration) (time.Duration, bool) {
	const milliseconds = 1e11 // as seconds: the year 5138
	s, ok := scalar(o.members[name])
	if !ok || o.repeated[name] {
		return 0, false
	}
	s = strings.TrimSpace(s)
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		n, err := strconv.ParseFloat(s, 64)
		if _, plain := parseSeconds(s, limit); err != nil || !plain || n <= 0 || n > 1e15 {
			return 0, false
		}
		if n >= milliseconds {
			n /= 1000
		}
		at = time.Unix(int64(n), 0)
	}
	return min(max(at.Sub(now), 0), limit), true
}

// keep returns the members to keep that are strings, numbers or truth values, on
// one line without control characters; o is the whole answer, in the object of
// its fields. Credentials are not kept this way, and neither is a value of more
// than 4 KiB.
func (o object) keep(in object, r Rules) map[string]string {
	var kept map[string]string
	take := func(name, path string) {
		switch path[strings.LastIndexByte(path, '.')+1:] {
		case "access_token", "refresh_token", "id_token", "client_secret":
			return
		}
		for _, from := range []object{o, in} {
			first, _, _ := strings.Cut(path, ".")
			if from.repeated[path] || from.repeated[first] {
				return
			}
			s, ok := from.path(path)
			if !ok || len(s) > maxKept {
				continue
			}
			if s = cleanLine(s); s == "" {
				continue
			}
			if kept == nil {
				kept = map[string]string{}
			}
			kept[name] = s
			return
		}
	}
	for _, name := range r.Keep {
		take(name, name)
	}
	for name, path := range r.KeepAs {
		take(name, path)
	}
	return kept
}
