"""Functions of MATLAB that a step may call, written into its file where it does."""

HELPERS = {
    "within": """\
function v = within(v, outside)
% Real numbers, NaN where a function has no real value.
v = real(v);
v(outside) = NaN;
end""",
    "powered": """\
function v = powered(a, b)
% Real powers, NaN where there is none.
none = a < 0 & b ~= fix(b);
v = real(a .^ b);
size_of = abs(a) .^ b;
v(none) = NaN;
whole = a < 0 & (isinf(b) | none & isinf(a));
v(whole) = size_of(whole);
end""",
    "larger": """\
function v = larger(a, b)
% The maximum, NaN where one of them is.
v = max(a, b);
v(isnan(a) | isnan(b)) = NaN;
end""",
    "smaller": """\
function v = smaller(a, b)
% The minimum, NaN where one of them is.
v = min(a, b);
v(isnan(a) | isnan(b)) = NaN;
end""",
    "pick": """\
function v = pick(which, a, b)
% a where `which` holds, else b.
n = max([numel(which), numel(a), numel(b)]);
if isscalar(which), which = repmat(which, n, 1); end
if isscalar(a), a = repmat(a, n, 1); end
if isscalar(b), b = repmat(b, n, 1); end
v = b;
v(which) = a(which);
end""",
    "even": """\
function v = even(x)
% The nearest integer, the even one of two.
v = round(x);
tie = abs(x - fix(x)) == 0.5;
v(tie) = 2 * round(x(tie) / 2);
end""",
    "truncated": """\
function v = truncated(x, low, high)
% Floating-point numbers as integers.
v = min(max(fix(double(x)), low), high);
v(isnan(x)) = 0;
end""",
    "modulo": """\
function v = modulo(a, b)
% The remainder of a division by infinity is the dividend.
v = rem(a, b);
a = a + zeros(size(b));
whole = isinf(b) & isfinite(a);
v(whole) = a(whole);
end""",
    "quotient": """\
function v = quotient(a, b)
% Of integers.
v = fix(a ./ b);
v(~(b + 0 * a)) = -1;
end""",
    "remainder": """\
function v = remainder(a, b)
% Of integers.
v = rem(a, b);
a = a + 0 * b;
v(~(b + 0 * a)) = a(~(b + 0 * a));
end""",
    "products": """\
function v = products(a, b, count, m, k, n)
% Of a stack of matrices.
v = zeros(count * m * n, 1, class(a));
for s = 0:count-1
    x = reshape(a(s * m * k + (1:m * k)), k, m).';
    y = reshape(b(s * k * n + (1:k * n)), n, k).';
    v(s * m * n + (1:m * n)) = (x * y).';
end
end""",
    "extreme": """\
function [v, at] = extreme(x, how)
% Of each row, NaN where there is one, and its first position.
if strcmp(how, 'max'), [v, at] = max(x, [], 2); else, [v, at] = min(x, [], 2); end
[bad, first] = max(isnan(x), [], 2);
v(bad > 0) = NaN;
at(bad > 0) = first(bad > 0);
end""",
    "place": """\
function at = place(x, how)
% Of the extreme of each row, counted from 0.
[~, at] = extreme(x, how);
at = at - 1;
end""",
    "running": """\
function x = running(x, how)
% Extremes along each row.
for k = 2:size(x, 2)
    x(:, k) = extreme(x(:, k-1:k), how);
end
end""",
    "put": """\
function v = put(v, at, updates, how)
% Changes entries at positions counted from 0, where they are not negative.
if isscalar(updates), updates = repmat(updates, numel(at), 1); end
for k = 1:numel(at)
    if at(k) < 0, continue, end
    i = at(k) + 1;
    switch how
        case 'set', v(i) = updates(k);
        case 'add', v(i) = v(i) + updates(k);
        case 'mul', v(i) = v(i) * updates(k);
        otherwise, v(i) = extreme([v(i), updates(k)], how);
    end
end
end""",
    "factored": """\
function [a, pivots, order] = factored(a, count, n)
% L U = a(order) for each of a stack, rows exchanged for the largest pivot; L has a diagonal of ones.
pivots = zeros(count * n, 1);
order = repmat((0:n-1).', count, 1);
for s = 0:count-1
    at = s * n * n + (1:n * n);
    x = reshape(a(at), n, n).';
    for k = 1:n
        [~, p] = max(abs(x(k:n, k)));
        p = p + k - 1;
        pivots(s * n + k) = p - 1;
        x([k p], :) = x([p k], :);
        order(s * n + [k p]) = order(s * n + [p k]);
        if x(k, k) ~= 0, x(k+1:n, k) = x(k+1:n, k) / x(k, k); end
        x(k+1:n, k+1:n) = x(k+1:n, k+1:n) - x(k+1:n, k) * x(k, k+1:n);
    end
    a(at) = x.';
end
end""",
    "cholesky": """\
function a = cholesky(a, count, n)
% The lower factor of each of a stack, NaN where one is not positive definite.
for s = 0:count-1
    at = s * n * n + (1:n * n);
    x = reshape(a(at), n, n).';
    l = zeros(n, class(a));
    for j = 1:n
        d = x(j, j) - l(j, 1:j-1) * l(j, 1:j-1).';
        if ~(d > 0), l(:) = NaN; break, end
        l(j, j) = sqrt(d);
        l(j+1:n, j) = (x(j+1:n, j) - l(j+1:n, 1:j-1) * l(j, 1:j-1).') / l(j, j);
    end
    a(at) = l.';
end
end""",
    "solved": """\
function b = solved(a, b, count, n, m, lower, unit)
% b = a^-1 b for each of a stack of triangular matrices.
for s = 0:count-1
    x = reshape(a(s * n * n + (1:n * n)), n, n).';
    at = s * n * m + (1:n * m);
    y = reshape(b(at), m, n).';
    known = [];
    if lower, rows = 1:n; else, rows = n:-1:1; end
    for i = rows
        y(i, :) = y(i, :) - x(i, known) * y(known, :);
        if ~unit, y(i, :) = y(i, :) / x(i, i); end
        known = [known, i];
    end
    b(at) = y.';
end
end""",
}

NEEDS = {"place": ("extreme",), "running": ("extreme",), "put": ("extreme",)}
"""Helpers that a helper calls."""
