package command

// FamilyNames are the names of the families of commands, by index. The commands of modules
// are one family.
var FamilyNames []string

// FamilyOf is the index of a command's family, by the command's ID.
var FamilyOf []uint8

// setFamilies fills the tables above.
func setFamilies() {
	indexes := map[string]uint8{}
	add := func(name string) {
		f, ok := indexes[name]
		if !ok {
			f = uint8(len(FamilyNames))
			indexes[name] = f
			FamilyNames = append(FamilyNames, name)
		}
		FamilyOf = append(FamilyOf, f)
	}
	for _, c := range ByID {
		add(c.Group)
	}
	add("module") // of LearnedID
}
