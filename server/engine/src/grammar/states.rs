//! What may come next, as a deterministic automaton that is made while it is used.
//!
//! A stack says what is still to come in one reading of the text: a place in an alternative, and below it what comes after that. A state
//! is the set of all stacks that the text so far allows. Stacks share their lower parts, and a state that was reached once is known with
//! where its characters lead, so that asking about a whole vocabulary is mostly looking up.

use std::collections::{HashMap, HashSet};

use super::rules::Element;
use super::{Ambiguous, Rules};

/// A set of stacks, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State(u32);

impl State {
    /// No reading is left.
    pub(super) const DEAD: Self = Self(0);
}

// A stack: a place in `elements` that is not an end, and the stack below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    at: u32,
    below: u32,
}

// The empty stack: the text may end.
const BOTTOM: u32 = 0;

#[derive(Debug)]
pub(super) struct States {
    rules: Rules,
    nodes: Vec<Node>,
    node_numbers: HashMap<Node, u32>,
    // The stacks whose top is a character or a token, and the empty one, in order.
    sets: Vec<Vec<u32>>,
    set_numbers: HashMap<Vec<u32>, u32>,
    steps: HashMap<(State, u32), State>,
    // Stacks in all sets.
    held: usize,
    budget: usize,
}

impl States {
    /// With the state at a text's beginning.
    pub(super) fn new(rules: Rules) -> Result<(Self, State), Ambiguous> {
        let mut states = Self {
            rules,
            nodes: Vec::new(),
            node_numbers: HashMap::new(),
            sets: Vec::new(),
            set_numbers: HashMap::new(),
            steps: HashMap::new(),
            held: 0,
            budget: FIRST_BUDGET,
        };
        states.clear();
        // A rule that begins with itself is found now, and not when the text has come so far.
        for rule in 0..states.rules.rules.len() {
            states.beginning(rule)?;
        }
        states.clear();
        let root = states.beginning(states.rules.root as usize)?;
        let root = states.number(root);
        Ok((states, root))
    }

    pub(super) fn renew_budget(&mut self) {
        self.budget = BUDGET;
    }

    pub(super) fn may_end(&self, state: State) -> bool {
        self.stacks(state).first() == Some(&BOTTOM)
    }

    /// The state after a character.
    pub(super) fn after(&mut self, state: State, char: u32) -> Result<State, Ambiguous> {
        let class = self.rules.class(char);
        if let Some(&next) = self.steps.get(&(state, class)) {
            return Ok(next);
        }
        let next = self.step(state, |rules, element| match element {
            Element::Chars(set) => rules.meets(set, char, char),
            _ => false,
        })?;
        self.steps.insert((state, class), next);
        Ok(next)
    }

    /// The state after a token that the grammar names.
    pub(super) fn after_token(&mut self, state: State, token: i32) -> Result<State, Ambiguous> {
        let is_token = |stack: &u32| matches!(self.top(*stack), Some(Element::Token { .. }));
        if !self.rules.names_tokens || !self.stacks(state).iter().any(is_token) {
            return Ok(State::DEAD);
        }
        self.step(state, |_, element| match element {
            Element::Token { id, not } => (id == token) != not,
            _ => false,
        })
    }

    /// Whether some character between these two may come next.
    pub(super) fn goes_on_within(&mut self, state: State, low: u32, high: u32) -> Result<bool, Ambiguous> {
        let stacks = self.stacks(state);
        let meets = |stack: &u32| match self.top(*stack) {
            Some(Element::Chars(set)) => self.rules.meets(set, low, high),
            _ => false,
        };
        let (found, looked) = (stacks.iter().any(meets), stacks.len());
        self.spend(looked)?;
        Ok(found)
    }

    /// What either allows.
    pub(super) fn union(&mut self, one: State, other: State) -> State {
        let mut stacks = [self.stacks(one), self.stacks(other)].concat();
        stacks.sort_unstable();
        stacks.dedup();
        self.number(stacks)
    }

    /// Forgets everything but this state if it has become much; its number may change.
    pub(super) fn trim(&mut self, state: &mut State) {
        if self.held + self.nodes.len() + self.steps.len() >= REMEMBERED {
            *state = self.forget_all_but(*state);
        }
    }

    pub(super) fn forget_all_but(&mut self, state: State) -> State {
        let (nodes, stacks) = (std::mem::take(&mut self.nodes), std::mem::take(&mut self.sets[state.0 as usize]));
        self.clear();
        // What is below was made before what is above: in this order every lower part is there already.
        let mut needed = HashSet::new();
        for stack in stacks.iter().copied() {
            let mut stack = stack;
            while stack != BOTTOM && needed.insert(stack) {
                stack = nodes[stack as usize].below;
            }
        }
        let mut needed: Vec<_> = needed.into_iter().collect();
        needed.sort_unstable();
        let mut moved = HashMap::from([(BOTTOM, BOTTOM)]);
        for old in needed {
            let Node { at, below } = nodes[old as usize];
            let new = self.node(at, moved[&below]);
            moved.insert(old, new);
        }
        let mut stacks: Vec<_> = stacks.iter().map(|stack| moved[stack]).collect();
        stacks.sort_unstable();
        self.number(stacks)
    }

    fn clear(&mut self) {
        self.nodes = vec![Node { at: u32::MAX, below: BOTTOM }];
        self.node_numbers.clear();
        self.sets = vec![Vec::new()];
        self.set_numbers = HashMap::from([(Vec::new(), 0)]);
        self.steps.clear();
        self.held = 0;
    }

    fn step(&mut self, state: State, matches: impl Fn(&Rules, Element) -> bool) -> Result<State, Ambiguous> {
        let stacks = self.stacks(state).to_vec();
        self.spend(stacks.len())?;
        let mut next = Vec::new();
        for stack in stacks {
            if self.top(stack).is_some_and(|element| matches(&self.rules, element)) {
                next.push(self.rest(stack));
            }
        }
        let stacks = self.expanded(next)?;
        Ok(self.number(stacks))
    }

    fn beginning(&mut self, rule: usize) -> Result<Vec<u32>, Ambiguous> {
        let starts = self.rules.rules[rule].clone().unwrap_or_default();
        let stacks = starts.into_iter().map(|start| self.place(start, BOTTOM)).collect();
        self.expanded(stacks)
    }

    // The stacks with the rules on top of them replaced by what they give.
    fn expanded(&mut self, mut todo: Vec<u32>) -> Result<Vec<u32>, Ambiguous> {
        let mut seen = HashSet::new();
        let mut done = Vec::new();
        while let Some(stack) = todo.pop() {
            if !seen.insert(stack) {
                continue;
            }
            self.spend(1)?;
            if seen.len() > STACKS {
                return Err(Ambiguous);
            }
            let Some(Element::Rule(rule)) = self.top(stack) else {
                done.push(stack);
                continue;
            };
            let below = self.rest(stack);
            for alternative in 0..self.alternatives(rule).len() {
                let start = self.alternatives(rule)[alternative];
                self.spend(1)?;
                let stack = self.place(start, below);
                todo.push(stack);
            }
        }
        done.sort_unstable();
        Ok(done)
    }

    fn alternatives(&self, rule: u32) -> &[u32] {
        self.rules.rules[rule as usize].as_deref().unwrap_or_default()
    }

    fn top(&self, stack: u32) -> Option<Element> {
        (stack != BOTTOM).then(|| self.rules.elements[self.nodes[stack as usize].at as usize])
    }

    // The stack without the element on its top. Of an alternative's end nothing is kept, so a rule that ends with itself does not grow.
    fn rest(&mut self, stack: u32) -> u32 {
        let Node { at, below } = self.nodes[stack as usize];
        self.place(at + 1, below)
    }

    fn place(&mut self, at: u32, below: u32) -> u32 {
        match self.rules.elements[at as usize] {
            Element::End => below,
            _ => self.node(at, below),
        }
    }

    fn node(&mut self, at: u32, below: u32) -> u32 {
        let node = Node { at, below };
        let next = self.nodes.len() as u32;
        *self.node_numbers.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            next
        })
    }

    fn number(&mut self, stacks: Vec<u32>) -> State {
        let next = self.sets.len() as u32;
        State(*self.set_numbers.entry(stacks).or_insert_with_key(|stacks| {
            self.held += stacks.len();
            self.sets.push(stacks.clone());
            next
        }))
    }

    fn stacks(&self, state: State) -> &[u32] {
        &self.sets[state.0 as usize]
    }

    fn spend(&mut self, effort: usize) -> Result<(), Ambiguous> {
        self.budget = self.budget.checked_sub(effort).ok_or(Ambiguous)?;
        Ok(())
    }
}

/// Stacks in a state, with those on the way to it: far more than grammars for people's formats have.
const STACKS: usize = 16 << 10;
/// Stacks looked at for one token, some ten million of which are a second: a step of the model may take so long anyway.
const BUDGET: usize = 500_000;
const FIRST_BUDGET: usize = 1_000_000;
/// Stacks, states and steps that are kept: some 50 MB at worst.
const REMEMBERED: usize = 1_000_000;
