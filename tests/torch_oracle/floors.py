"""How many samples of an op must be compared, at least, in each dtype: about three quarters of what PyTorch 2.13 makes and minigrad can do."""

_TABLE = """
abs=26   cos=27   exp=29   expm1=26   log=29   log1p=26   logical_not=29   sigmoid=29   sign=26   sin=24   sqrt=26   square=29   tanh=26   neg=26
nn.functional.relu=30   positive=26   sgn=26   clone=49   contiguous=49   alias_copy=1   add=87   sub=87   rsub=85   mul=84   true_divide=84
div/no_rounding_mode=84   pow=84   __radd__=82   __rsub__=82   __rmul__=82   __rdiv__=82   __rpow__=84   reciprocal=29   rsqrt=29   maximum=75
max/binary=75   minimum=75   min/binary=75   addcmul=9   addcdiv=21   lerp=10   eq=88   ne=87   gt=87   ge=87   lt=87   le=87   logical_and=75
logical_or=75   where=4   masked_fill=6   nn.functional.hardtanh=32   nn.functional.relu6=29
nn.functional.leaky_relu=6   nn.functional.elu=29   nn.functional.gelu=6   nn.functional.softplus=29   nn.functional.logsigmoid=29
nn.functional.silu=29   nn.functional.mish=29   nn.functional.softsign=29   nn.functional.tanhshrink=29   double=32   float=32   half=32   long=32
int=32   short=32   char=32   byte=32   bool=32   to=18   broadcast_to=5   expand=6   expand_copy=6   expand_as=2   broadcast_tensors=3
sum_to_size=12   reshape=29   view=29   view_copy=5   reshape_as=21   view_as=21   ravel=2   permute=48   permute_copy=48   transpose=5
transpose_copy=5   t=2   t_copy=2   T=1   mT=3   unsqueeze=6   unsqueeze_copy=6   flip=7   fliplr=1   flipud=1   flatten=24   squeeze=6
squeeze/multiple=4   squeeze_copy=6   movedim=7   cat=5   stack=6   hstack=1   unbind=4   unbind_copy=4   narrow=36   narrow_copy=18   select=4
split=1   split/list_args=2   split_with_sizes=3   split_with_sizes_copy=3   unsafe_split=1   chunk=12   unsafe_chunk=12   tensor_split=7
nn.functional.pad/constant=35   constant_pad_nd=35   __getitem__=12   masked_select=5   take=7   index_select=1   gather=2   take_along_dim=3
nn.functional.embedding=2   sum=13   mean=13   amax=13   amin=13   aminmax=3   max/reduction_no_dim=1   min/reduction_no_dim=1
max/reduction_with_dim=1   min/reduction_with_dim=1   argmax=8   var=10   var/unbiased=1   std=10   std/unbiased=1   var_mean=10   var_mean/unbiased=1
std_mean=10   std_mean/unbiased=1   cumsum=2   logsumexp=9   softmax=3   softmax/with_dtype=3   log_softmax=3   log_softmax/with_dtype=3
nn.functional.softmin=3   nn.functional.softmin/with_dtype=3   logaddexp=75   matmul=11   mm=2   bmm=1   mv=1   dot=1   inner=1   vdot=1
linalg.vecdot=33   __rmatmul__=11   linalg.multi_dot=5   outer=1   einsum=8   nn.functional.linear=13   diagonal=18   diagonal_copy=18
linalg.diagonal=11   trace=3   tril=6   triu=6   linalg.inv=6   linalg.det=6   linalg.solve=18   cholesky=12   linalg.cholesky=12   addbmm=4   addmm=4
addmm/decomposed=4   addmv=4   baddbmm=4   addr=3   linalg.eigvalsh=6   linalg.eigh=6   linalg.norm=28   linalg.norm/subgradients_at_zero=15
linalg.matrix_norm=6   linalg.vector_norm=13   norm=5   norm/fro=2   dist=18   nn.functional.conv2d=22   nn.functional.conv1d=7
nn.functional.max_pool2d=1080   nn.functional.avg_pool2d=4   nn.functional.adaptive_avg_pool2d=7   nn.functional.dropout=11
nn.functional.cross_entropy=15   nn.functional.nll_loss=41   nn.functional.mse_loss=4   nn.functional.binary_cross_entropy_with_logits=19
nn.functional.batch_norm=7   nn.functional.instance_norm=6   nn.functional.layer_norm=3   nn.functional.group_norm=21   nn.functional.rms_norm=3
floor=26   ceil=26   isfinite=29   isinf=26   isnan=26   round=26   round/decimals_0=29   round/decimals_3=29   round/decimals_neg_3=29   nan_to_num=29
roll=12   tile=21   repeat=18   repeat_interleave=3   vstack=1   argmin=8   any=13   all=13   sort=20   argsort=20   cumprod=6   prod=26   tensordot=1
diag=12   erf=26
"""
FLOORS = {name: int(n) for name, n in (item.rsplit("=", 1) for item in _TABLE.split())}
