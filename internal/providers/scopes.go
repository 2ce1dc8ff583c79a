package providers

import (
	"slices"
	"strings"
)

// ScopeRules say how the scopes of an answer are compared with those that were
// asked for, where the names alone would mislead. They hold only the scopes
// about which there is something to say.
type ScopeRules struct {
	// Prefix may stand before each name in an answer (Scopes.Prefix).
	Prefix string `json:"prefix,omitempty"`
	// FoldCase says that the case of a name does not count.
	FoldCase bool                 `json:"fold_case,omitempty"`
	Names    map[string]ScopeRule `json:"names,omitempty"`
}

// ScopeRule is what one scope stands for beside its own name.
type ScopeRule struct {
	Includes []string `json:"includes,omitempty"` // scopes that need not be granted beside it
	Also     []string `json:"also,omitempty"`     // other names of the same scope
	Unlisted bool     `json:"unlisted,omitempty"` // an answer need not name it
}

// rules returns what Pin remembers of the scopes, or nil when their names can be
// compared as they are.
func (s *Scopes) rules() *ScopeRules {
	rules := ScopeRules{Prefix: s.Prefix, FoldCase: s.FoldCase}
	for _, scope := range s.Catalog {
		if len(scope.Includes)+len(scope.Also) == 0 && !scope.Unlisted {
			continue
		}
		if rules.Names == nil {
			rules.Names = make(map[string]ScopeRule)
		}
		rules.Names[scope.Name] = ScopeRule{Includes: slices.Clone(scope.Includes), Also: slices.Clone(scope.Also), Unlisted: scope.Unlisted}
	}
	if rules.Prefix == "" && !rules.FoldCase && rules.Names == nil {
		return nil
	}
	return &rules
}

// MissingScopes returns the scopes that were asked for and neither granted, nor
// included in one that was, nor granted under another name. They come in
// the order asked, each once. A scope that an answer need not name is never
// missing: nothing can be said about it.
func (p *Pins) MissingScopes(asked, granted []string) []string {
	if p.Scopes == nil {
		return subtract(asked, func(scope string) bool { return slices.Contains(granted, scope) })
	}
	rules := p.Scopes.index()
	have := make(map[string]bool, len(granted))
	var add func(scope string)
	add = func(scope string) {
		name := rules.name(scope)
		if have[name] {
			return
		}
		have[name] = true
		for _, included := range rules.byName[name].Includes {
			add(included)
		}
	}
	for _, scope := range granted {
		add(scope)
	}
	return subtract(asked, func(scope string) bool {
		name := rules.name(scope)
		return have[name] || rules.byName[name].Unlisted
	})
}

func subtract(scopes []string, has func(string) bool) []string {
	var missing []string
	for _, scope := range scopes {
		if !has(scope) && !slices.Contains(missing, scope) {
			missing = append(missing, scope)
		}
	}
	return missing
}

// scopeIndex finds the one name by which a scope is known.
type scopeIndex struct {
	prefix string
	fold   bool
	byName map[string]ScopeRule
	alias  map[string]string
}

func (r *ScopeRules) index() scopeIndex {
	x := scopeIndex{prefix: r.Prefix, fold: r.FoldCase, byName: make(map[string]ScopeRule, len(r.Names)), alias: map[string]string{}}
	for name, rule := range r.Names {
		plain := x.plain(name)
		x.byName[plain] = rule
		for _, other := range rule.Also {
			x.alias[x.plain(other)] = plain
		}
	}
	return x
}

func (x scopeIndex) plain(scope string) string {
	if x.fold {
		scope = strings.ToLower(scope)
		return strings.TrimPrefix(scope, strings.ToLower(x.prefix))
	}
	return strings.TrimPrefix(scope, x.prefix)
}

func (x scopeIndex) name(scope string) string {
	plain := x.plain(scope)
	if name, ok := x.alias[plain]; ok {
		return name
	}
	return plain
}

// Find returns the scope of the catalogue that an answer means by name: with the
// prefix, in another case, or by another name, as far as the definition says so.
func (s *Scopes) Find(name string) (Scope, bool) {
	same := func(a, b string) bool { return a == b || s.FoldCase && strings.EqualFold(a, b) }
	short := name
	if s.Prefix != "" {
		short = strings.TrimPrefix(name, s.Prefix)
	}
	for _, scope := range s.Catalog {
		if same(scope.Name, name) || same(scope.Name, short) || slices.Contains(scope.Also, name) {
			return scope, true
		}
	}
	return Scope{}, false
}
