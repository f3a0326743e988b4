/// First parts of human names. The order is part of every name: never change it.
#[rustfmt::skip]
pub(super) const NATURE: [&str; 128] = [
    "acorn", "alder", "amber", "apple", "ash", "aspen", "aurora", "autumn",
    "bamboo", "basil", "bay", "beach", "berry", "birch", "bloom", "blossom",
    "boulder", "branch", "breeze", "brook", "canyon", "cave", "cedar", "cherry",
    "clay", "cliff", "cloud", "clover", "coast", "copper", "coral", "cove",
    "creek", "crystal", "daisy", "dawn", "delta", "desert", "dew", "drift",
    "dune", "dusk", "earth", "echo", "elm", "ember", "fern", "field",
    "fir", "fjord", "flint", "flower", "foam", "fog", "forest", "frost",
    "garden", "ginger", "glacier", "glade", "granite", "grass", "gravel", "grove",
    "harbor", "hazel", "hedge", "hill", "holly", "honey", "ice", "iris",
    "island", "ivy", "jade", "jasmine", "juniper", "lagoon", "lake", "larch",
    "lava", "leaf", "lemon", "lilac", "lily", "linden", "lotus", "maple",
    "marble", "marsh", "meadow", "mint", "mist", "moon", "moss", "mountain",
    "myrtle", "oak", "oasis", "ocean", "olive", "onyx", "opal", "orchard",
    "orchid", "pebble", "petal", "pine", "plum", "pond", "poppy", "prairie",
    "quartz", "rain", "reef", "ridge", "river", "rose", "sand", "shore",
    "sky", "snow", "spring", "star", "stone", "summer", "willow", "wind",
];
