/// Second parts of human names. The order is part of every name: never change it.
#[rustfmt::skip]
pub(super) const ANIMALS: [&str; 128] = [
    "alpaca", "ant", "antelope", "armadillo", "badger", "bat", "bear", "beaver",
    "bee", "beetle", "bison", "bluebird", "bobcat", "buffalo", "butterfly", "buzzard",
    "camel", "canary", "caribou", "cat", "chamois", "cheetah", "chickadee", "chipmunk",
    "cicada", "condor", "corgi", "cougar", "coyote", "crab", "crane", "cricket",
    "crow", "curlew", "deer", "dingo", "dolphin", "dormouse", "dove", "dragonfly",
    "duck", "eagle", "egret", "elephant", "elk", "emu", "ermine", "falcon",
    "ferret", "finch", "firefly", "flamingo", "fox", "frog", "gannet", "gazelle",
    "gecko", "gerbil", "giraffe", "goat", "goose", "gopher", "grouse", "gull",
    "hamster", "hare", "hawk", "hedgehog", "heron", "hippo", "horse", "hummingbird",
    "ibex", "ibis", "iguana", "impala", "jackal", "jaguar", "jay", "kangaroo",
    "kestrel", "kingfisher", "kite", "kitten", "kiwi", "koala", "lark", "lemming",
    "lemur", "leopard", "lion", "lizard", "llama", "lobster", "lynx", "magpie",
    "mallard", "manatee", "marmot", "marten", "mole", "moose", "moth", "mouse",
    "newt", "octopus", "orca", "oriole", "osprey", "otter", "owl", "panda",
    "panther", "parrot", "pelican", "penguin", "pheasant", "pigeon", "puffin", "puma",
    "quail", "rabbit", "raccoon", "raven", "robin", "salmon", "seal", "tiger",
];
